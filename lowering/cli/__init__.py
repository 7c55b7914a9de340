"""The subcommands `qga devices`, `qga inspect` and `qga bench`; each module has `add_parser` and `execute`."""
