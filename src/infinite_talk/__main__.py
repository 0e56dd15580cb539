"""``python -m infinite_talk``: the command line, where its script is not on the path."""

from infinite_talk.frontends.cli.main import main

if __name__ == "__main__":
    main()
