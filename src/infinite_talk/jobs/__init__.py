"""Jobs of the studio and the service: the durable store, its workers, and checks at the door."""
