"""``python -m qga.app`` is the command ``qga``."""

from .main import main

raise SystemExit(main())
