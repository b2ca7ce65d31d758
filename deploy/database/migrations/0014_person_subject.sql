-- Who a person is at the identity provider that the installation is configured with.
ALTER TABLE exchange.person ADD COLUMN oidc_subject text UNIQUE CHECK (length(oidc_subject) BETWEEN 1 AND 255);
GRANT UPDATE (oidc_subject) ON exchange.person TO tongdui_app;
