-- What deleted sessions and their workspaces were called: their files may still be there. No id that
-- anybody asks for has more than 128 characters, but workspaces may be called anything.

CREATE TABLE former_names (
    name TEXT PRIMARY KEY
);
CREATE INDEX sessions_by_workspace ON sessions (workspace) WHERE length(workspace) <= 128;
