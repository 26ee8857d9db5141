-- The tables as prefsync 0.1.0 made them at first, before there was a version table; with one user's preferences.
CREATE TABLE preference_changes (
    tenant_id VARCHAR(255) COLLATE "C" NOT NULL,
    user_id VARCHAR(255) COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    previous BIGINT NOT NULL,
    patch JSONB NOT NULL,
    replaced JSONB NOT NULL,
    origin VARCHAR(64),
    at BIGINT NOT NULL,
    CONSTRAINT pk_preference_changes PRIMARY KEY (tenant_id, user_id, revision)
);
CREATE INDEX ix_preference_changes_at ON preference_changes (at);
COMMENT ON COLUMN preference_changes.patch IS '{"assigned": ..., "unset": ...} in stored values';
COMMENT ON COLUMN preference_changes.replaced IS 'what was stored there before';
COMMENT ON COLUMN preference_changes.at IS 'ms since 1970';
CREATE TABLE preference_deployment (
    id INTEGER NOT NULL,
    name VARCHAR(32) NOT NULL,
    CONSTRAINT pk_preference_deployment PRIMARY KEY (id)
);
COMMENT ON COLUMN preference_deployment.id IS 'always 1';
COMMENT ON COLUMN preference_deployment.name IS 'names this database in the cache and on the notifier';
CREATE TABLE preference_erasures (
    id INTEGER NOT NULL,
    floor BIGINT NOT NULL,
    CONSTRAINT pk_preference_erasures PRIMARY KEY (id)
);
COMMENT ON COLUMN preference_erasures.id IS 'always 1';
COMMENT ON COLUMN preference_erasures.floor IS 'no erased subject ever had a higher revision';
CREATE TABLE preference_relay (
    id INTEGER NOT NULL,
    turn_at BIGINT NOT NULL,
    relayed_until BIGINT NOT NULL,
    CONSTRAINT pk_preference_relay PRIMARY KEY (id)
);
COMMENT ON COLUMN preference_relay.id IS 'always 1';
COMMENT ON COLUMN preference_relay.turn_at IS 'when a process last took its turn, ms since 1970';
COMMENT ON COLUMN preference_relay.relayed_until IS 'up to when the log was relayed';
CREATE TABLE preference_requests (
    tenant_id VARCHAR(255) COLLATE "C" NOT NULL,
    user_id VARCHAR(255) COLLATE "C" NOT NULL,
    idempotency_key VARCHAR(128) COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL,
    answer BYTEA NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT pk_preference_requests PRIMARY KEY (tenant_id, user_id, idempotency_key)
);
CREATE INDEX ix_preference_requests_at ON preference_requests (at);
COMMENT ON COLUMN preference_requests.at IS 'ms since 1970';
CREATE TABLE user_preferences (
    tenant_id VARCHAR(255) COLLATE "C" NOT NULL,
    user_id VARCHAR(255) COLLATE "C" NOT NULL,
    document JSONB NOT NULL,
    revision BIGINT NOT NULL,
    revisions JSONB NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT pk_user_preferences PRIMARY KEY (tenant_id, user_id)
);
COMMENT ON COLUMN user_preferences.document IS 'stored values by namespace and field; never a default';
COMMENT ON COLUMN user_preferences.revisions IS 'of each namespace';
COMMENT ON COLUMN user_preferences.created_at IS 'ms since 1970';
COMMENT ON COLUMN user_preferences.updated_at IS 'ms since 1970';
INSERT INTO preference_erasures (id, floor) VALUES (1, 0);
INSERT INTO preference_deployment (id, name) VALUES (1, '9f1c02d47a4e4b0fa9f6c2f5f4f5b8a1');
INSERT INTO user_preferences (tenant_id, user_id, document, revision, revisions, created_at, updated_at) VALUES
    ('', 'anna', '{"appearance":{"theme":"dark"}}', 1794000000000, '{"appearance":1794000000000}', 1794000000000, 1794000000000);
INSERT INTO preference_changes (tenant_id, user_id, revision, previous, patch, replaced, origin, at) VALUES
    ('', 'anna', 1794000000000, 0, '{"assigned":{"appearance":{"theme":"dark"}},"unset":{}}', '{}', NULL, 1794000000000);
