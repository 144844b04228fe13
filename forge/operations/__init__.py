"""Where the git side and the model side meet: what several verbs do with both."""
