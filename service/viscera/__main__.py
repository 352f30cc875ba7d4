"""`python -m viscera` is `viscera`."""

from viscera.cli import main

raise SystemExit(main())
