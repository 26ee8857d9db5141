"""The revisions. A revision that was released is never changed: what it needs of types is in it."""
