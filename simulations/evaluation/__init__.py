"""How what was learned is judged: what is held out, what is asked, what is measured."""
