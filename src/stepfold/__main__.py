"""``python -m stepfold``, which is also how torchrun starts the command line."""

from _stepfold_command import main

if __name__ == "__main__":
    main()
