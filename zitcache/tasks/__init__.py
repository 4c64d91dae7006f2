"""The verbs. Each module is plan -> execute -> result; tasks emit progress and never print."""
