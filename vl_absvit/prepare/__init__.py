"""From raw downloads to the tables that training reads."""
