"""The web page: a person without a command line makes a talking video. A thin client of the desk."""
