"""From noise to the latent of one window: schedule, stepper, guidance, noise, loop, step caches."""
