//! How the library sends each statement: under which settings, with which types, and with what for arguments.
//!
//! The arguments are SQL, with the functions and variables of `fill.sql`.

/// The settings that a statement is planned under: a file in the folder `prelude`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prelude {
    /// Also what the caller's own transaction is taken for.
    Free,
    Indexed,
    Lookup,
    Snapshot,
}

impl Prelude {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Indexed => "indexed",
            Self::Lookup => "lookup",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A statement as the library sends it.
#[derive(Debug)]
pub(super) struct Case {
    /// The file without its ending.
    pub(super) statement: &'static str,
    pub(super) preludes: &'static [Prelude],
    /// The types of its parameters.
    pub(super) types: &'static str,
    /// What is measured: a name and the arguments.
    pub(super) runs: &'static [(&'static str, &'static str)],
}

const fn case(
    statement: &'static str,
    preludes: &'static [Prelude],
    types: &'static str,
    runs: &'static [(&'static str, &'static str)],
) -> Case {
    Case { statement, preludes, types, runs }
}

const FREE: &[Prelude] = &[Prelude::Free];
const INDEXED: &[Prelude] = &[Prelude::Indexed];
const LOOKUP: &[Prelude] = &[Prelude::Lookup];
const SNAPSHOT: &[Prelude] = &[Prelude::Snapshot];
/// In a transaction of the library's, and in the caller's.
const ANYWHERE: &[Prelude] = &[Prelude::Indexed, Prelude::Free];

const ENQUEUE: &str = "int8, text, uuid[], text[], bytea[], text[], text[], text[], text[], text[], text[], int2[], int4[], text[], \
                       timestamptz[], int8[], int8";
const PLAIN: &str = "int8, text, uuid[], text[], bytea[], text[], text[], text[], text[], text[], text[], int2[], int4[], text[]";
const ONE: &str = "int8, text, uuid, text, bytea, text, text, text, text, text, text, int2, int4, bool";
const TAKE: &str = "int8, uuid, text, uuid, bool, text[], int4[], int4[], int4[], int4[], int2[], int8[], int8, timestamptz";
const SETTLE: &str = "int8, uuid[], text[], varbit[], uuid[], int4[], uuid[], text[], int2[], int4[], int4[], int2[], int8[], text[], \
                      text[], bool, text";
const LIST: &str = "uuid, text, text, timestamptz, int8, text, uuid";
const LEASED: &str = "uuid, text, text, timestamptz, int8, text";

/// So many messages, up to a number. Columns of which they have nothing are NULL.
macro_rules! messages {
    ($n:literal, $last:literal) => {
        concat!(
            "0, 'tickr_ready', sample.ids(20000001, ",
            $last,
            "), array_fill(sample.type(7), ARRAY[",
            $n,
            "]), array_fill('\\x1234567890'::bytea, ARRAY[",
            $n,
            "]), NULL, array_fill('application/json'::text, ARRAY[",
            $n,
            "]), NULL, array_fill('tenant-1'::text, ARRAY[",
            $n,
            "]), NULL, NULL, array_fill(2::int2, ARRAY[",
            $n,
            "]), NULL"
        )
    };
}

/// 500 messages, of which the columns of keys and due times are given.
macro_rules! batch {
    ($keys:literal, $delay:literal) => {
        concat!(
            messages!("500", "20000500"),
            ", ",
            $keys,
            ", array_fill(NULL::timestamptz, ARRAY[500]), array_fill(",
            $delay,
            "::int8, ARRAY[500]), 604800000000"
        )
    };
}

/// So many messages without keys that are due at once.
macro_rules! plain {
    ($n:literal, $last:literal) => {
        concat!(messages!($n, $last), ", ARRAY[sample.type(7)]")
    };
}

/// A claim of 1,000 of three types with four lanes each, all with one floor.
macro_rules! take {
    ($floor:literal) => {
        concat!(
            "0, sample.uuid('worker', 6), 'worker-6', sample.uuid('new', 1), false, ",
            "ARRAY[sample.type(3), sample.type(4), sample.type(5)], '{1,5,9}', '{4,8,12}', '{334,334,334}', '{10,10,10}', ",
            "'{0,1,2,3,0,1,2,3,0,1,2,3}', array_fill((",
            $floor,
            ")::int8, ARRAY[12]), 1000, '-infinity'"
        )
    };
}

/// A claim of 1,000 of a hundred types, every second of which has no messages.
const TAKE_MANY: &str = "0, sample.uuid('worker', 6), 'worker-6', sample.uuid('new', 1), false, sample.types(100), \
                         sample.steps(1, 400, 4), sample.steps(4, 400, 4), array_fill(20, ARRAY[100]), array_fill(10, ARRAY[100]), \
                         sample.lanes(100), array_fill(0::int8, ARRAY[400]), 1000, '-infinity'";

/// What there is a plan of. A statement without a place here fails the check.
pub(super) const CASES: &[Case] = &[
    case(
        "enqueue/insert",
        ANYWHERE,
        ENQUEUE,
        &[
            ("500 without keys", batch!("NULL", "0")),
            ("500 with new keys", batch!("sample.texts('new-', 1, 500)", "0")),
            ("500 for later", batch!("NULL", "60000000")),
            ("500 with keys that are taken", batch!("sample.taken(1, 500)", "0")),
        ],
    ),
    case("enqueue/append", FREE, PLAIN, &[("one", plain!("1", "20000001")), ("500", plain!("500", "20000500"))]),
    case(
        "enqueue/one",
        FREE,
        ONE,
        &[(
            "one",
            "0, 'tickr_ready', sample.id(20000001), sample.type(7), '\\x1234567890', NULL, 'application/json', NULL, 'tenant-1', NULL, \
             NULL, 2, NULL, false",
        )],
    ),
    case("enqueue/plain", FREE, PLAIN, &[("one", plain!("1", "20000001")), ("500", plain!("500", "20000500"))]),
    case(
        "enqueue/owners",
        ANYWHERE,
        "text[], text[], uuid[]",
        &[("500 keys", "array_fill(sample.type(7), ARRAY[500]), sample.taken(1, 500), sample.ids(20000001, 20000500)")],
    ),
    case("enqueue/messages_of_type", FREE, "text", &[("a type", "sample.type(3)")]),
    case(
        "claim/take",
        INDEXED,
        TAKE,
        &[
            ("1,000 of 3 types, floors 0", take!("0")),
            ("1,000 of 3 types, floors at nine tenths", take!(":ready * 9 / 10")),
            ("1,000 of 3 types, floors at the end", take!(":ready")),
            ("1,000 of 100 types, half of them empty", TAKE_MANY),
        ],
    ),
    case("claim/adopt", INDEXED, "uuid", &[("1,000 members", "sample.uuid('open', 1)")]),
    case(
        "settle/succeeded",
        INDEXED,
        "int8, uuid[], varbit[]",
        &[("10 claims of 1,000", "0, sample.uuids('open', 1, 10), array_fill(repeat('1', 1000)::varbit, ARRAY[10])")],
    ),
    case(
        "settle/settle",
        INDEXED,
        SETTLE,
        &[
            (
                "10 claims of 1,000, all skipped",
                "0, sample.uuids('open', 1, 10), array_fill('skipped'::text, ARRAY[10]), array_fill(repeat('1', 1000)::varbit, ARRAY[10]), \
             '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true, 'tickr_ready'",
            ),
            (
                "1 claim of 1,000, 100 of them failed",
                "0, array_fill(sample.uuid('open', 1), ARRAY[2]), '{ok,failed}', \
             ARRAY[(repeat('0', 100) || repeat('1', 900))::varbit, (repeat('1', 100) || repeat('0', 900))::varbit], \
             array_fill(sample.uuid('open', 1), ARRAY[100]), sample.numbers(0, 99), \
             sample.ids(:finished + :scheduled + :ready + 1, :finished + :scheduled + :ready + 100), \
             array_fill(sample.type(1), ARRAY[100]), array_fill(2::int2, ARRAY[100]), array_fill(1, ARRAY[100]), array_fill(1, ARRAY[100]), \
             array_fill(0::int2, ARRAY[100]), array_fill(5000000::int8, ARRAY[100]), array_fill('failed'::text, ARRAY[100]), \
             array_fill('connection refused'::text, ARRAY[100]), true, 'tickr_ready'",
            ),
        ],
    ),
    case("settle/before", INDEXED, "uuid[]", &[("10 claims", "sample.uuids('first', 1, 10)")]),
    case(
        "worker/beat",
        INDEXED,
        "int8, uuid, int8, bool, text",
        &[("10 open claims", "0, sample.uuid('worker', 1), 30000000, false, 'tickr_ready'")],
    ),
    case("worker/end_exclusive", INDEXED, "uuid", &[("1", "sample.uuid('open', 1)")]),
    case(
        "worker/register",
        INDEXED,
        "int8, uuid, text, text[], int8",
        &[("a new one", "0, sample.uuid('worker', 99), 'worker-99', sample.texts('orders.event_', 10, 30), 30000000")],
    ),
    case(
        "worker/retire",
        INDEXED,
        "int8, uuid, text, text, bool, text",
        &[("4 claims of 1,000", "0, sample.uuid('worker', 2), 'stopped', 'body is missing', true, 'tickr_ready'")],
    ),
    case("worker/remove", INDEXED, "uuid", &[("1", "sample.uuid('worker', 8)")]),
    case("upkeep/pending", FREE, "int8, bool", &[("all", "0, true")]),
    case("upkeep/condemn", INDEXED, "int8", &[("1", "0")]),
    case("upkeep/condemn_unowned", FREE, "int8", &[("none", "0")]),
    case("upkeep/shorten", FREE, "int8", &[("none", "0")]),
    case(
        "upkeep/reclaim",
        INDEXED,
        "int8, int8, bool, text, text",
        &[("2 claims of 1,000", "0, 100, true, 'body is missing', 'tickr_ready'")],
    ),
    case("upkeep/remove_condemned", FREE, "", &[("1", "")]),
    case(
        "upkeep/promote",
        INDEXED,
        "int8, timestamptz, int8, text",
        &[
            ("1,000 of what is due, no floor", "0, '-infinity', 1000, 'tickr_ready'"),
            ("nothing due, floor now", "0, now(), 1000, 'tickr_ready'"),
        ],
    ),
    case("purge/bodies", INDEXED, "int8, int8, int8", &[("1,000", "0, 604800000000, 1000")]),
    case("purge/dead", INDEXED, "int8, int8, int8", &[("1,000", "0, 604800000000, 1000")]),
    case("purge/claims", INDEXED, "int8, int8, int8", &[("1,000 claims of 1,000", "0, 604800000000, 1000")]),
    case(
        "purge/transitions",
        INDEXED,
        "int8, int8, int8, int8",
        &[
            ("1,000 without bodies", "0, 604800000000, 0, 1000"),
            ("1,000 with bodies", "0, 604800000000, :purged / 50 + :purged / 500, 1000"),
        ],
    ),
    case("purge/keys", INDEXED, "int8, timestamptz, text, text, int8", &[("1,000", "0, '-infinity', '', '', 1000")]),
    case("lock/acquire", INDEXED, "int8, text, uuid, int8", &[("one's own", "0, 'purge', sample.uuid('worker', 1), 30000000")]),
    case("lock/extend", INDEXED, "int8, text, uuid, int8, int8", &[("one's own", "0, 'purge', sample.uuid('worker', 1), 7, 30000000")]),
    case("notify/tell", FREE, "text, text[]", &[("3 types", "'tickr_ready', '{a,b,c}'")]),
    case("stats/sample", INDEXED, "int8, int8", &[("counts up to 100,000", "0, 100001"), ("counts up to 1,000", "0, 1001")]),
    case("stats/pauses", FREE, "", &[("all", "0")]),
    case(
        "admin/get",
        INDEXED,
        "uuid",
        &[
            ("ready", "sample.id(:finished + :scheduled + 1000)"),
            ("dead", "sample.id(:finished - 500)"),
            ("leased", "sample.id(:finished + :scheduled + :ready + 500)"),
            ("succeeded lately", "sample.id(:finished - 101)"),
            ("succeeded long ago", "sample.id(1101)"),
        ],
    ),
    case("admin/created_at", LOOKUP, "uuid", &[("1", "sample.id(1101)")]),
    case("admin/transitions", LOOKUP, "uuid", &[("2", "sample.id(1500)")]),
    case("admin/history", LOOKUP, "uuid", &[("of late", "sample.id(:finished - 101)"), ("of long ago", "sample.id(1101)")]),
    case(
        "admin/list_all",
        INDEXED,
        LIST,
        &[
            ("50 of all", "NULL, NULL, NULL, NULL, 51, NULL, NULL"),
            ("50 SUCCESS", "NULL, NULL, NULL, NULL, 51, 'SUCCESS', NULL"),
            ("50 SUCCESS behind what waits", "sample.id(:finished + :scheduled + :ready), NULL, NULL, NULL, 51, 'SUCCESS', NULL"),
            ("50 SUCCESS before an id", "sample.id(:finished / 2), NULL, NULL, NULL, 51, 'SUCCESS', NULL"),
            ("50 of a type and tenant", "NULL, sample.type(7), 'tenant-15', NULL, 51, NULL, NULL"),
        ],
    ),
    case("admin/list_leased", INDEXED, LEASED, &[("50", "NULL, NULL, NULL, NULL, 51, 'HANDLING'")]),
    case(
        "admin/list_waiting",
        INDEXED,
        LIST,
        &[("50 CREATED", "NULL, NULL, NULL, NULL, 51, 'CREATED', NULL"), ("50 RETRYING", "NULL, NULL, NULL, NULL, 51, 'RETRYING', NULL")],
    ),
    case(
        "admin/list_dead_messages",
        INDEXED,
        LIST,
        &[("50", "NULL, NULL, NULL, NULL, 51, 'DEAD', NULL"), ("50 of a type", "NULL, sample.type(7), NULL, NULL, 51, 'DEAD', NULL")],
    ),
    case("admin/scan_all", INDEXED, "uuid, int8", &[("20,000", "NULL, 19999")]),
    case("admin/scan_waiting", INDEXED, "uuid, int8", &[("20,000", "NULL, 19999")]),
    case("admin/scan_dead", INDEXED, "uuid, int8", &[("1,000", "NULL, 999")]),
    case("admin/dead_letters", INDEXED, "uuid, int8", &[("50", "NULL, 51")]),
    case("admin/dead_letters_of_type", INDEXED, "uuid, text, int8", &[("50", "NULL, sample.type(7), 51")]),
    case("admin/workers", FREE, "", &[("all", "")]),
    case(
        "admin/pause",
        FREE,
        "int8, text, timestamptz, timestamptz, text, text, bool",
        &[("1", "0, sample.type(48), now(), now() + interval '1 hour', 'anna', 'why', false")],
    ),
    case("admin/resume", FREE, "int8, text", &[("1", "0, sample.type(49)")]),
    case(
        "admin/kill",
        INDEXED,
        "int8, uuid[], text, bool",
        &[
            ("1 ready", "0, ARRAY[sample.id(:finished + :scheduled + 1000)], 'why', true"),
            ("1 leased", "0, ARRAY[sample.id(:finished + :scheduled + :ready + 500)], 'why', true"),
            ("1,000 ready", "0, sample.ids(:finished + :scheduled + 1001, :finished + :scheduled + 2000), 'why', true"),
        ],
    ),
    case("admin/still_live", INDEXED, "uuid[]", &[("100", "sample.ids(:finished + :scheduled - 50, :finished + :scheduled + 49)")]),
    case(
        "admin/requeue",
        INDEXED,
        "int8, uuid[], timestamptz, int8, bool, text, int8",
        &[("100", "0, sample.dead(100), NULL, 0, true, 'tickr_ready', 604800000000")],
    ),
    case("admin/discard", INDEXED, "uuid[]", &[("100", "sample.dead(100)")]),
    case(
        "admin/reschedule",
        INDEXED,
        "int8, uuid[], timestamptz, int8, text, int8",
        &[
            (
                "100 to later",
                "0, sample.ids(:finished + :scheduled - 49, :finished + :scheduled + 50), NULL, 60000000, 'tickr_ready', 604800000000",
            ),
            ("100 to now", "0, sample.ids(:finished + :scheduled - 49, :finished + :scheduled + 50), NULL, 0, 'tickr_ready', 604800000000"),
        ],
    ),
    case(
        "admin/select_dead",
        INDEXED,
        "text, text, int8",
        &[("1,000", "NULL, NULL, 1000"), ("100 of a type", "sample.type(7), NULL, 100")],
    ),
    case(
        "admin/select_live",
        INDEXED,
        "text, text, int8",
        &[("1,000", "NULL, NULL, 1000"), ("100 of a type", "sample.type(7), NULL, 100")],
    ),
    case(
        "admin/select_scheduled",
        INDEXED,
        "text, text, int8",
        &[("1,000", "NULL, NULL, 1000"), ("100 of a type", "sample.type(7), NULL, 100")],
    ),
    case("admin/sabotage_headers", INDEXED, "uuid", &[("1", "sample.id(1101)")]),
    case("admin/sabotage_body", INDEXED, "uuid", &[("1", "sample.id(1101)")]),
    case("admin/sabotage_ready", INDEXED, "uuid", &[("1", "sample.id(:finished + :scheduled + 1000)")]),
    case("audit/places", SNAPSHOT, "", &[("all", "")]),
    case("audit/settlements", SNAPSHOT, "", &[("all", "")]),
    case("audit/claims", SNAPSHOT, "", &[("all", "")]),
    case("audit/bodies", SNAPSHOT, "", &[("all", "")]),
    case("schema/lock", FREE, "int8", &[("1", "42")]),
    case("schema/namespace", FREE, "text", &[("1", "'app'")]),
    case("schema/now", FREE, "int8", &[("1", "0")]),
    case("schema/exists", FREE, "text, text", &[("1", "NULL, 'tickr_migrations'")]),
    case("schema/server", FREE, "", &[("1", "")]),
    case("schema/version", FREE, "", &[("1", "")]),
    case("sequence/ready", INDEXED, "text", &[("1", "'tickr_ready'")]),
    case("sequence/set", INDEXED, "text, int8", &[("1", "'tickr_ready_seq_seq', 1000000000")]),
    case("sequence/transitions", INDEXED, "text", &[("1", "'tickr_transitions'")]),
    case("schema/path", FREE, "", &[("1", "")]),
    case("schema/find", FREE, "text, text[]", &[("1", "'tickr_migrations', '{public}'")]),
    case("schema/current", FREE, "", &[("1", "")]),
    case("enqueue/mark", FREE, "", &[("1", "")]),
];
