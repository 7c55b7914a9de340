"""The subcommands `qga devices`, `inspect`, `bench` and `tune`; each module has `add_parser` and `execute`."""
