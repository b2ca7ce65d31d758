-- People who work with the clearing house, how they prove who they are, and their sessions.

CREATE TABLE exchange.person (
    person_no integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,47}$'),
    -- 0 is the house.
    merchant_no integer NOT NULL CHECK (merchant_no >= 0),
    roles text[] NOT NULL CHECK (cardinality(roles) > 0),
    made_at timestamptz NOT NULL,
    disabled_at timestamptz,
    -- An invitation is accepted once; for one that a second person approved, both hold a part of it.
    invitation bytea CHECK (length(invitation) = 32),
    invitation_second bytea CHECK (length(invitation_second) = 32),
    invited_until timestamptz,
    -- Argon2id in its own text form; the TOTP secret is sealed under a key that is not in the database.
    password_hash text,
    totp_sealed bytea,
    totp_step bigint NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    next_try_at timestamptz NOT NULL,
    CONSTRAINT person_credentials_together CHECK ((password_hash IS NULL) = (totp_sealed IS NULL)),
    CONSTRAINT person_invitation_ends CHECK ((invitation IS NULL) = (invited_until IS NULL))
);

CREATE TABLE exchange.recovery_code (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    person_no integer NOT NULL REFERENCES exchange.person (person_no)
);
CREATE INDEX recovery_code_of_person ON exchange.recovery_code (person_no);

-- Only a session's digest is stored: who reads this table can open none.
CREATE TABLE exchange.session (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    person_no integer NOT NULL REFERENCES exchange.person (person_no),
    opened_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX session_of_person ON exchange.session (person_no) WHERE ended_at IS NULL;

GRANT SELECT, INSERT ON exchange.person TO tongdui_app;
GRANT UPDATE (roles, disabled_at, invitation, invitation_second, invited_until, password_hash, totp_sealed, totp_step,
    failures, next_try_at) ON exchange.person TO tongdui_app;
GRANT SELECT, INSERT, DELETE ON exchange.recovery_code TO tongdui_app;
GRANT SELECT, INSERT, UPDATE (seen_at, ended_at) ON exchange.session TO tongdui_app;
