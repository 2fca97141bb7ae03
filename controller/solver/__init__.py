"""The allocation, solved: ``exact`` proves the best integral plan, ``fast`` finds a very good fractional one."""
