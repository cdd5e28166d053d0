"""`python -m wsi_pipeline`."""

from wsi_pipeline.cli import main

if __name__ == "__main__":
    main()
