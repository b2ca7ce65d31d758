"""The services that a gateway's handlers ask, put together once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from time import time_ns
from typing import TYPE_CHECKING

from exchange.service.access import ApiKeys
from exchange.service.answer_keys import AnswerKeys
from exchange.service.baskets import BasketDesk
from exchange.service.bulk import BulkDesk
from exchange.service.callers import Callers, SignedOnly
from exchange.service.codes import CodeDesk
from exchange.service.consents import ConsentDesk
from exchange.service.dispute_desk import DisputeDesk
from exchange.service.endpoints import EndpointDesk
from exchange.service.feed import Feed
from exchange.service.fund_desk import FundDesk
from exchange.service.house_watch import HouseWatch
from exchange.service.households import HouseholdDesk
from exchange.service.links import LinkDesk
from exchange.service.members import Members
from exchange.service.oidc import IdentityProvider, read_settings
from exchange.service.order_link import OrderLink
from exchange.service.orders import QUOTE_SECONDS, OrderDesk
from exchange.service.own_files import OwnFileDesk
from exchange.service.passage import Passage
from exchange.service.passwords import Passwords
from exchange.service.proposals import ProposalDesk
from exchange.service.purchases import PurchaseDesk
from exchange.service.quote_keys import open_quote_keys
from exchange.service.report_desk import ReportDesk
from exchange.service.reports import Reports
from exchange.service.reversals import ReversalDesk
from exchange.service.sessions import Sessions
from exchange.service.shelf import Shelf
from exchange.service.signatures import Signatures
from exchange.service.signing_keys import KeyDesk
from exchange.service.transfers import TransferDesk
from exchange.service.vaults import VaultDoor
from exchange.signing.authority import LOOPBACK, PublicNames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from asyncpg import Pool

    from settlement.service.clearing import Clearing
    from settlement.service.nonces import Nonces


def wall_us() -> int:
    """Microseconds since 1970."""
    return time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What handlers ask.

    Attributes:
        pool: The database.
        clearing: The writer, near or far.
        callers: Says who calls.
        keys: Keys with which callers sign.
        answer_keys: Keys with which answers are signed.
        sessions: People who sign in.
        door: The vault, in which lies what their one-time codes come from.
        passwords: Hashes their passwords.
        proposals: Changes that need two people.
        provider: Through whom people may sign in as well; None where none is configured.
        shelf: What is offered.
        members: Enrolment and look-up.
        orders: Quotes and orders.
        bulk: Large requests of orders.
        links: Members' accounts at merchants' own systems.
        baskets: Bills that points of several issuers pay.
        codes: Spending codes.
        consents: What members agreed to.
        disputes: Cases about lines.
        households: Members who share their points.
        transfers: Transfers between them.
        purchases: Purchases and accruals.
        reports: Everything that is only read.
        report_desk: Reports for finance.
        fund_desk: Whose the money is.
        house_watch: Figures that operators are alerted by.
        feed: The stream of events.
        endpoints: Where webhooks are sent.
        own_files: Merchants' own lines of batches.
        key_folder: Folder of the house's keys.
        packages: Folder of the settlement packages.
        now_us: Clock, microseconds since 1970.
        simulators: Whether merchants' systems are simulators, so that tills may wish for faults.
    """

    pool: Pool
    clearing: Clearing
    callers: Callers
    keys: KeyDesk
    answer_keys: AnswerKeys
    sessions: Sessions
    door: VaultDoor
    passwords: Passwords
    proposals: ProposalDesk
    provider: IdentityProvider | None
    shelf: Shelf
    members: Members
    orders: OrderDesk
    reversals: ReversalDesk
    bulk: BulkDesk
    links: LinkDesk
    consents: ConsentDesk
    disputes: DisputeDesk
    households: HouseholdDesk
    transfers: TransferDesk
    baskets: BasketDesk
    codes: CodeDesk
    purchases: PurchaseDesk
    reports: Reports
    report_desk: ReportDesk
    fund_desk: FundDesk
    house_watch: HouseWatch
    feed: Feed
    endpoints: EndpointDesk
    own_files: OwnFileDesk
    key_folder: Path
    packages: Path
    now_us: Callable[[], int]
    simulators: bool = False

    def now(self) -> datetime:
        """The clock as a datetime."""
        return datetime.fromtimestamp(self.now_us() / 1_000_000, UTC)


def make_services(
    *,
    pool: Pool,
    clearing: Clearing,
    nonces: Nonces,
    home: Path,
    now_us: Callable[[], int] = wall_us,
    quote_seconds: int = QUOTE_SECONDS,
    order_link: OrderLink | None = None,
    api_keys: bool = False,
    simulators: bool = False,
    private_endpoints: bool = False,
    public_names: Sequence[str] = LOOPBACK,
) -> Services:
    """Put the services of one gateway together.

    Args:
        pool: The database.
        clearing: The writer, near or far.
        nonces: Its memory of signatures that were used.
        home: The installation's folder: `keys/` for the quotes' key, `packages/`.
        now_us: Clock, microseconds since 1970.
        quote_seconds: How long a quote is firm.
        order_link: The order workers, opened by the caller; None for none.
        api_keys: Whether API keys count as signatures do: in a sandbox alone.
        simulators: Whether merchants' systems are simulators.
        private_endpoints: Whether webhooks may go to closed networks and over plain HTTP.
        public_names: Hosts for which a signature counts here.

    Raises:
        QuoteKeysUnusable: The quotes' key file cannot be used.
    """
    shelf = Shelf(pool)
    now = datetime.fromtimestamp(now_us() / 1_000_000, UTC)

    def clock() -> datetime:
        return datetime.fromtimestamp(now_us() / 1_000_000, UTC)

    door = VaultDoor(pool, home / "keys")
    members = Members(pool, door, shelf, clock)
    packages = home / "packages"
    link = order_link or OrderLink((), now_us=now_us)
    links = LinkDesk(pool=pool, shelf=shelf, members=members, door=door, order_link=link, now=clock)
    passage = Passage(pool=pool, links=links, order_link=link, now_us=now_us)
    quote_keys = open_quote_keys(home / "keys", now=now)
    orders = OrderDesk(
        clearing=clearing,
        shelf=shelf,
        members=members,
        door=door,
        quote_keys=quote_keys,
        now_us=now_us,
        passage=passage,
        quote_seconds=quote_seconds,
    )
    passwords = Passwords()
    sessions = Sessions(
        pool,
        door,
        passwords,
        keys=ApiKeys(pool) if api_keys else SignedOnly(),
        now=lambda: datetime.fromtimestamp(now_us() / 1_000_000, UTC),
    )
    oidc = read_settings(home)
    return Services(
        pool=pool,
        clearing=clearing,
        callers=Callers(Signatures(pool, nonces, now_us, PublicNames(public_names)), sessions),
        sessions=sessions,
        door=door,
        passwords=passwords,
        keys=KeyDesk(pool, nonces),
        answer_keys=AnswerKeys(
            home / "keys", lambda: datetime.fromtimestamp(now_us() / 1_000_000, UTC)
        ),
        provider=IdentityProvider(oidc, door, now_us) if oidc else None,
        proposals=ProposalDesk(
            pool,
            clearing,
            home / "keys",
            lambda: datetime.fromtimestamp(now_us() / 1_000_000, UTC),
        ),
        shelf=shelf,
        members=members,
        orders=orders,
        reversals=ReversalDesk(clearing=clearing, pool=pool, door=door),
        bulk=BulkDesk(
            clearing=clearing,
            shelf=shelf,
            members=members,
            door=door,
            orders=orders,
            now_us=now_us,
        ),
        links=links,
        consents=ConsentDesk(pool=pool, shelf=shelf, members=members, now=clock),
        disputes=DisputeDesk(pool=pool, clearing=clearing, shelf=shelf, door=door, now=clock),
        households=HouseholdDesk(pool=pool, shelf=shelf, members=members, now=clock),
        transfers=TransferDesk(
            pool=pool, clearing=clearing, shelf=shelf, members=members, door=door
        ),
        baskets=BasketDesk(
            clearing=clearing,
            shelf=shelf,
            members=members,
            door=door,
            quote_keys=quote_keys,
            passage=passage,
            now_us=now_us,
        ),
        codes=CodeDesk(shelf=shelf, members=members, quote_keys=quote_keys, now_us=now_us),
        purchases=PurchaseDesk(clearing=clearing, shelf=shelf, members=members, door=door),
        reports=Reports(pool=pool, shelf=shelf, members=members, packages=packages, now_us=now_us),
        report_desk=ReportDesk(pool, packages, clock),
        fund_desk=FundDesk(pool, shelf, clock),
        house_watch=HouseWatch(pool, keys=home / "keys", packages=packages, now=clock),
        feed=Feed(pool),
        endpoints=EndpointDesk(
            pool,
            now=lambda: datetime.fromtimestamp(now_us() / 1_000_000, UTC),
            private=private_endpoints,
        ),
        own_files=OwnFileDesk(pool, packages),
        key_folder=home / "keys",
        packages=packages,
        now_us=now_us,
        simulators=simulators,
    )
