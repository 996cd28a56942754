"""``python -m yeoul`` is the command ``yeoul``."""

from yeoul.cli.main import main

if __name__ == "__main__":
    main()
