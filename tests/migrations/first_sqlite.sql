-- The tables as prefsync 0.1.0 made them at first, before there was a version table; with one user's preferences.
CREATE TABLE preference_changes (
    tenant_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    revision BIGINT NOT NULL,
    previous BIGINT NOT NULL,
    patch TEXT NOT NULL,
    replaced TEXT NOT NULL,
    origin VARCHAR(64),
    at BIGINT NOT NULL,
    CONSTRAINT pk_preference_changes PRIMARY KEY (tenant_id, user_id, revision)
);
CREATE INDEX ix_preference_changes_at ON preference_changes (at);
CREATE TABLE preference_deployment (
    id INTEGER NOT NULL,
    name VARCHAR(32) NOT NULL,
    CONSTRAINT pk_preference_deployment PRIMARY KEY (id)
);
CREATE TABLE preference_erasures (
    id INTEGER NOT NULL,
    floor BIGINT NOT NULL,
    CONSTRAINT pk_preference_erasures PRIMARY KEY (id)
);
CREATE TABLE preference_relay (
    id INTEGER NOT NULL,
    turn_at BIGINT NOT NULL,
    relayed_until BIGINT NOT NULL,
    CONSTRAINT pk_preference_relay PRIMARY KEY (id)
);
CREATE TABLE preference_requests (
    tenant_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    idempotency_key VARCHAR(128) NOT NULL,
    digest BLOB NOT NULL,
    answer BLOB NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT pk_preference_requests PRIMARY KEY (tenant_id, user_id, idempotency_key)
);
CREATE INDEX ix_preference_requests_at ON preference_requests (at);
CREATE TABLE user_preferences (
    tenant_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    document TEXT NOT NULL,
    revision BIGINT NOT NULL,
    revisions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT pk_user_preferences PRIMARY KEY (tenant_id, user_id)
);
INSERT INTO preference_erasures (id, floor) VALUES (1, 0);
INSERT INTO preference_deployment (id, name) VALUES (1, '9f1c02d47a4e4b0fa9f6c2f5f4f5b8a1');
INSERT INTO user_preferences (tenant_id, user_id, document, revision, revisions, created_at, updated_at) VALUES
    ('', 'anna', '{"appearance":{"theme":"dark"}}', 1794000000000, '{"appearance":1794000000000}', 1794000000000, 1794000000000);
INSERT INTO preference_changes (tenant_id, user_id, revision, previous, patch, replaced, origin, at) VALUES
    ('', 'anna', 1794000000000, 0, '{"assigned":{"appearance":{"theme":"dark"}},"unset":{}}', '{}', NULL, 1794000000000);
