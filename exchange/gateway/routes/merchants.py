"""Merchants, their keys, limits and rules."""

from __future__ import annotations

from typing import Final

from exchange.gateway import handlers, household_handlers, key_handlers, limit_handlers
from exchange.gateway.formats import JSON_TYPE
from exchange.gateway.gate import Who
from exchange.gateway.routes.route import CODE, PAGED, Parameter, Route, choice
from schemas.values.reason import Reason
from schemas.wire import households, keys, limits, merchants

_KEY_ID = Parameter(
    name="key_id",
    example="poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U",
    text="The key's id, its thumbprint.",
    pattern=r"^[0-9A-Za-z_-]{43}$",
)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/v1/merchants",
        summary="Register a merchant with its programme, rates and cap.",
        who=Who.OPERATOR,
        handler=handlers.post_merchants,
        repeat="a code is taken once; a repeat is refused with `merchant_exists`.",
        request={JSON_TYPE: merchants.MerchantRequest},
        response={JSON_TYPE: merchants.MerchantAnswer},
        status=201,
        refusals=(Reason.MERCHANT_EXISTS, Reason.SECOND_PERSON_NEEDED),
    ),
    Route(
        method="GET",
        path="/v1/keys",
        summary="Keys with which the caller signs; the house sees everybody's.",
        who=Who.MERCHANT,
        handler=key_handlers.get_keys,
        request={},
        response={JSON_TYPE: keys.KeysAnswer},
        parameters=PAGED,
    ),
    Route(
        method="POST",
        path="/v1/keys",
        summary="Register a key whose holder proves to hold it; rotate to it with an overlap.",
        who=Who.MERCHANT,
        handler=key_handlers.post_keys,
        repeat="a key is registered once; a repeat is refused with `signing_key_not_taken`.",
        request={JSON_TYPE: keys.KeyRequest},
        response={JSON_TYPE: keys.KeyView},
        status=201,
        refusals=(
            Reason.UNKNOWN_MERCHANT,
            Reason.SIGNING_KEY_NOT_TAKEN,
            Reason.SECOND_PERSON_NEEDED,
        ),
    ),
    Route(
        method="POST",
        path="/v1/keys/{key_id}/revoke",
        summary="Revoke a key for good; no gateway takes it any more.",
        who=Who.MERCHANT,
        handler=key_handlers.post_key_revoke,
        repeat="a revoked key stays as it is.",
        request={},
        response={JSON_TYPE: keys.KeyView},
        parameters=(_KEY_ID,),
    ),
    Route(
        method="GET",
        path="/v1/merchants",
        summary="Merchants, by code.",
        who=Who.MERCHANT,
        handler=handlers.get_merchants,
        request={},
        response={JSON_TYPE: merchants.MerchantsAnswer},
        parameters=(
            choice(
                "hosted",
                "Merchants whose points the house keeps, or the others.",
                ("true", "false"),
            ),
            *PAGED,
        ),
    ),
    Route(
        method="GET",
        path="/v1/merchants/{code}/limits",
        summary="How often a merchant may ask; a merchant sees its own.",
        who=Who.MERCHANT,
        handler=limit_handlers.get_limits,
        request={},
        response={JSON_TYPE: limits.LimitsAnswer},
        parameters=(CODE,),
    ),
    Route(
        method="PUT",
        path="/v1/merchants/{code}/limits",
        summary="Set how often a merchant may ask; every gateway follows within two seconds.",
        who=Who.OPERATOR,
        handler=limit_handlers.put_limits,
        repeat="a repeat sets the same.",
        request={JSON_TYPE: limits.LimitsRequest},
        response={JSON_TYPE: limits.LimitsAnswer},
        parameters=(CODE,),
    ),
    Route(
        method="GET",
        path="/v1/merchants/{code}/household-rules",
        summary="What a programme allows its households; a merchant sees its own.",
        who=Who.MERCHANT,
        handler=household_handlers.get_household_rules,
        request={},
        response={JSON_TYPE: households.HouseholdRulesAnswer},
        parameters=(CODE,),
        refusals=(Reason.UNKNOWN_MERCHANT, Reason.HOUSEHOLD_NOT_OFFERED),
    ),
    Route(
        method="PUT",
        path="/v1/merchants/{code}/household-rules",
        summary="Set what a programme allows its households, within the house's bounds.",
        who=Who.MERCHANT,
        handler=household_handlers.put_household_rules,
        repeat="a repeat sets the same.",
        request={JSON_TYPE: households.HouseholdRulesRequest},
        response={JSON_TYPE: households.HouseholdRulesAnswer},
        parameters=(CODE,),
        refusals=(Reason.UNKNOWN_MERCHANT, Reason.HOUSEHOLD_NOT_OFFERED),
    ),
)
