-- A leg of a basket: once its issuer holds the points, the journey waits for the basket to be decided.
ALTER TABLE exchange.journey ADD COLUMN waits boolean NOT NULL DEFAULT false;
