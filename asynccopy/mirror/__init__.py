"""Many files: list them, decide, have them copied, account for every one."""
