"""Reports as lines for a person: one module per command, one function ``render_<command>(report, view)``.

The first line says what the user needs to know; every text that comes from outside goes through
:func:`zitcache.ui.text.printable`.
"""
