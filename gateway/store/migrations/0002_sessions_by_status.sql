-- For the few whose status says that something has to be done about them.

CREATE INDEX sessions_by_status ON sessions (status, created_at);
