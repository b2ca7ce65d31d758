-- The house's keys for what staff's one-time codes come from, and for digests of requests, stand under the master key too.
ALTER TABLE exchange.house_key DROP CONSTRAINT house_key_name_check;
ALTER TABLE exchange.house_key
    ADD CONSTRAINT house_key_name_check CHECK (name IN ('members', 'lookup', 'token', 'requests', 'people'));
