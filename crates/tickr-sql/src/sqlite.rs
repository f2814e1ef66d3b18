//! Statements for SQLite, by noun. Each constant is one file of `sql/sqlite`, whose header says what it does and which
//! index it relies on.

/// Declares one module per folder and one constant per file, and lists them all.
macro_rules! statements {
    ($($(#[$doc:meta])* $module:ident: $($name:ident = $file:literal),+;)+) => {
        $($(#[$doc])*
        pub mod $module {
            $(
                #[doc = concat!("```sql\n", include_str!(concat!("../sql/sqlite/", stringify!($module), "/", $file)), "```")]
                pub const $name: &str = include_str!(concat!("../sql/sqlite/", stringify!($module), "/", $file));
            )+
        }
        )+

        /// Every statement with its name, for tests that prepare and explain them.
        pub const ALL: &[(&str, &str)] = &[$($((concat!(stringify!($module), "/", $file), $module::$name),)+)+];
    };
}

statements! {
    /// How the schema stands.
    schema:
        EXISTS = "exists.sql",
        VERSION = "version.sql";
    /// Rows of the queue and of the journal.
    queue:
        HAS_READY = "has_ready.sql",
        INSERT_DEAD = "insert_dead.sql",
        INSERT_READY = "insert_ready.sql",
        INSERT_SCHEDULED = "insert_scheduled.sql",
        INSERT_SETTLEMENT = "insert_settlement.sql",
        INSERT_TRANSITION = "insert_transition.sql",
        IS_PAUSED = "is_paused.sql",
        LAST_SEQ = "last_seq.sql",
        LAST_TEXT = "last_text.sql",
        PASS_READY = "pass_ready.sql",
        RESERVE_SEQ = "reserve_seq.sql";
    /// Storing messages.
    enqueue:
        DELETE_KEY = "delete_key.sql",
        EXTEND_KEY = "extend_key.sql",
        INSERT_KEY = "insert_key.sql",
        INSERT_MESSAGE = "insert_message.sql",
        KEY_OWNER = "key_owner.sql",
        MESSAGE_EXISTS = "message_exists.sql",
        MESSAGES_OF_TYPE = "messages_of_type.sql";
    /// Leasing messages.
    claim:
        BODY = "body.sql",
        INSERT_CLAIM = "insert_claim.sql",
        INSERT_OPEN = "insert_open.sql",
        MAY_CLAIM = "may_claim.sql",
        READ_CLAIM = "read_claim.sql",
        TAKE = "take.sql",
        TOKEN_EXISTS = "token_exists.sql";
    /// Ending leases.
    settle:
        CLOSE = "close.sql",
        READ_OPEN = "read_open.sql",
        READ_SETTLEMENTS = "read_settlements.sql",
        WRITE_REVOKED = "write_revoked.sql",
        WRITE_SETTLED = "write_settled.sql";
    /// Workers and their leases.
    worker:
        BEAT = "beat.sql",
        EXISTS = "exists.sql",
        END_EXCLUSIVE = "end_exclusive.sql",
        FIRST_SUSPECTS = "first_suspects.sql",
        OPEN_CLAIMS = "open_claims.sql",
        REGISTER = "register.sql",
        REMOVE = "remove.sql";
    /// Promote and reclaim.
    upkeep:
        ANY_EXPIRED = "any_expired.sql",
        ANY_LOST = "any_lost.sql",
        CONDEMN = "condemn.sql",
        CONDEMN_UNOWNED = "condemn_unowned.sql",
        CONDEMNED_CLAIMS = "condemned_claims.sql",
        NEXT_DUE = "next_due.sql",
        REMOVE_CONDEMNED = "remove_condemned.sql",
        TAKE_DUE = "take_due.sql",
        SHORTEN = "shorten.sql";
    /// Retention.
    purge:
        DEAD_BEFORE = "dead_before.sql",
        DELETE_BODY = "delete_body.sql",
        DELETE_CLAIM = "delete_claim.sql",
        DELETE_DEAD = "delete_dead.sql",
        DELETE_KEY = "delete_key.sql",
        DELETE_SETTLEMENTS = "delete_settlements.sql",
        DELETE_TRANSITION = "delete_transition.sql",
        JOURNAL_BEFORE = "journal_before.sql",
        KEYS_AFTER = "keys_after.sql",
        READ_CURSOR = "read_cursor.sql",
        SETTLEMENTS_AFTER = "settlements_after.sql",
        TRANSITIONS_AFTER = "transitions_after.sql",
        WRITE_CURSOR = "write_cursor.sql";
    /// Named leases.
    lock:
        EXTEND = "extend.sql",
        READ = "read.sql",
        WRITE = "write.sql";
    /// Counting.
    stats:
        COUNT_DEAD = "count_dead.sql",
        COUNT_READY = "count_ready.sql",
        COUNT_SCHEDULED = "count_scheduled.sql",
        NEXT_DEAD_TYPE = "next_dead_type.sql",
        NEXT_READY_TYPE = "next_ready_type.sql",
        NEXT_SCHEDULED_TYPE = "next_scheduled_type.sql",
        OLDEST_IN_LANE = "oldest_in_lane.sql",
        OPEN_CLAIMS = "open_claims.sql",
        PAUSES = "pauses.sql",
        SERVED_TYPES = "served_types.sql";
    /// What operators ask and do.
    admin:
        CLAIMS_OVER = "claims_over.sql",
        DEAD_LETTERS = "dead_letters.sql",
        DEAD_LETTERS_OF_TYPE = "dead_letters_of_type.sql",
        FIND_DEAD = "find_dead.sql",
        FIND_READY = "find_ready.sql",
        FIND_SCHEDULED = "find_scheduled.sql",
        FORGET_PAUSES = "forget_pauses.sql",
        LIST_ALL = "list_all.sql",
        LIST_DEAD_MESSAGES = "list_dead_messages.sql",
        LIST_WAITING = "list_waiting.sql",
        PAUSE = "pause.sql",
        RESUME = "resume.sql",
        SABOTAGE_HEADERS = "sabotage_headers.sql",
        SELECT_DEAD = "select_dead.sql",
        SELECT_READY = "select_ready.sql",
        SELECT_SCHEDULED = "select_scheduled.sql",
        TAKE_READY = "take_ready.sql",
        TAKE_SCHEDULED = "take_scheduled.sql",
        TRANSITIONS = "transitions.sql",
        WORKERS = "workers.sql";
    /// Comparing everything with the invariants.
    audit:
        BODIES = "bodies.sql",
        CLAIMS = "claims.sql",
        DEAD = "dead.sql",
        ORPHANS = "orphans.sql",
        READY = "ready.sql",
        SCHEDULED = "scheduled.sql";
}
