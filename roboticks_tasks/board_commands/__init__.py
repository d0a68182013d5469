"""The commands for boards: a profile that describes one, its enrollment, its power, who has it."""
