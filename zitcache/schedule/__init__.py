"""Nights: when they run, what runs them, who is told, and what is remembered of each.

``times``: cron expressions · ``jobs``: the one source of what runs when · ``systemd``, ``cron``, ``daemon``:
the three ways to run it · ``history``: what happened · ``hooks``, ``notify``, ``metrics``: who is told.
"""
