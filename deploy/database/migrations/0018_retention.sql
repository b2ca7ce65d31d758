-- What was kept for its time may be removed; nothing of the books is.
GRANT DELETE ON exchange.session, exchange.consent, exchange.dead_letter TO tongdui_app;

-- Merchants' own words, which may name a member, are not kept any more, also those of before.
UPDATE exchange.journey_line SET detail = '' WHERE detail <> '' AND source <> 4;
UPDATE exchange.journey SET stuck_why = '' WHERE stuck_why <> '';
