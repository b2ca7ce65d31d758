-- Public keys with which merchants and the house sign their requests; a key is never registered twice.
CREATE TABLE exchange.signing_key (
    key_id text PRIMARY KEY CHECK (key_id ~ '^[0-9A-Za-z_-]{43}$'),
    merchant_no integer NOT NULL,
    public_key bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
    label text NOT NULL CHECK (length(label) <= 80),
    registered_at timestamptz NOT NULL,
    retires_at timestamptz CHECK (retires_at >= registered_at),
    revoked_at timestamptz CHECK (revoked_at >= registered_at)
);
CREATE INDEX signing_key_of_merchant ON exchange.signing_key (merchant_no);

GRANT SELECT, INSERT, UPDATE (retires_at, revoked_at) ON exchange.signing_key TO tongdui_app;
