-- How often a caller may ask; rows are only added, and the last one of a caller counts. Whoever has none has what is
-- usual, and the house no limit.
CREATE TABLE exchange.rate_limit (
    limit_no bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    -- 0 for the house.
    merchant_no integer NOT NULL CHECK (merchant_no >= 0),
    -- At most so many units in so many seconds; nothing for no limit.
    orders bigint CHECK (orders > 0),
    orders_seconds integer CHECK (orders_seconds > 0),
    requests bigint CHECK (requests > 0),
    requests_seconds integer CHECK (requests_seconds > 0),
    set_at timestamptz NOT NULL,
    CONSTRAINT rate_limit_orders_whole CHECK ((orders IS NULL) = (orders_seconds IS NULL)),
    CONSTRAINT rate_limit_requests_whole CHECK ((requests IS NULL) = (requests_seconds IS NULL))
);
CREATE INDEX rate_limit_of_merchant ON exchange.rate_limit (merchant_no, limit_no DESC);
GRANT SELECT, INSERT ON exchange.rate_limit TO tongdui_app;
