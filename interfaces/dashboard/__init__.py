"""The dashboard: pages of what runs and what ran, now or as of any past moment, and what people can do there.

Every page is made on the server from the tables alone, so it can be made as of any event.  A page that shows
the present is told by server-sent events when it should be asked for again; nothing in it looks at a clock.
"""

from interfaces.dashboard.door import Dashboard as Dashboard
