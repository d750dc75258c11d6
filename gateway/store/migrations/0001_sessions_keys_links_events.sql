-- One text for SQLite and PostgreSQL: times are microseconds since 1970, digests are hex.

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    org TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    external_id TEXT,
    name TEXT,
    agent_id TEXT,
    version_id TEXT,
    storage_binding_id TEXT,
    internet_access INTEGER NOT NULL,
    last_message_id TEXT,
    last_message_status TEXT,
    metadata TEXT NOT NULL,
    executor TEXT,
    workspace TEXT,
    UNIQUE (org, external_id)
);
CREATE INDEX sessions_by_org ON sessions (org, created_at, id);
CREATE INDEX sessions_by_agent ON sessions (org, agent_id, created_at, id);

-- A label is the digest of an organisation and one entry of a session's metadata: of a fixed size,
-- however long the value, which PostgreSQL could not index.
CREATE TABLE session_labels (
    label TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    PRIMARY KEY (label, created_at, session_id)
);
CREATE INDEX session_labels_by_session ON session_labels (session_id);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    org TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    sessions TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);

-- Sessions of links and ledgers need not be registered: no foreign key leads to them.
CREATE TABLE links (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    org TEXT NOT NULL,
    session_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    target TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    max_uses BIGINT,
    uses BIGINT NOT NULL
);
CREATE INDEX links_by_session ON links (session_id);
CREATE INDEX links_by_expiry ON links (expires_at);

CREATE TABLE ledgers (
    session_id TEXT PRIMARY KEY,
    last_event BIGINT NOT NULL
);
CREATE TABLE events (
    session_id TEXT NOT NULL REFERENCES ledgers (session_id) ON DELETE CASCADE,
    id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (session_id, id)
);
