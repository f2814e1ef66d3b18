//! Statements for PostgreSQL, by noun. Each constant is one file of `sql/postgres`, whose header says what it does and which
//! index it relies on. [`Names`] puts a schema and a prefix into them.

use std::collections::HashMap;

use tickr_core::{Error, Result};

/// A statement by its name, such as `claim/take.sql`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statement {
    /// The file.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Declares one module per folder and one constant per file, and lists them all.
macro_rules! statements {
    ($($(#[$doc:meta])* $module:ident: $($name:ident = $file:literal),+;)+) => {
        $($(#[$doc])*
        pub mod $module {
            use super::Statement;

            $(
                #[doc = concat!("```sql\n", include_str!(concat!("../sql/postgres/", stringify!($module), "/", $file)), "```")]
                pub const $name: Statement = Statement {
                    name: concat!(stringify!($module), "/", $file),
                    text: include_str!(concat!("../sql/postgres/", stringify!($module), "/", $file)),
                };
            )+
        }
        )+

        /// Every statement, for those who prepare and explain them.
        pub const ALL: &[Statement] = &[$($($module::$name,)+)+];
    };
}

statements! {
    /// How the schema stands.
    schema:
        LOCK = "lock.sql",
        NAMESPACE = "namespace.sql",
        NOW = "now.sql",
        CURRENT = "current.sql",
        EXISTS = "exists.sql",
        FIND = "find.sql",
        PATH = "path.sql",
        SERVER = "server.sql",
        VERSION = "version.sql";
    /// Storing messages.
    enqueue:
        APPEND = "append.sql",
        INSERT = "insert.sql",
        MARK = "mark.sql",
        MESSAGES_OF_TYPE = "messages_of_type.sql",
        ONE = "one.sql",
        OWNERS = "owners.sql",
        PLAIN = "plain.sql";
    /// Leasing messages.
    claim:
        ADOPT = "adopt.sql",
        TAKE = "take.sql";
    /// Ending leases.
    settle:
        BEFORE = "before.sql",
        SETTLE = "settle.sql",
        SUCCEEDED = "succeeded.sql";
    /// Workers and their leases.
    worker:
        BEAT = "beat.sql",
        END_EXCLUSIVE = "end_exclusive.sql",
        REGISTER = "register.sql",
        REMOVE = "remove.sql",
        RETIRE = "retire.sql";
    /// Promote and reclaim.
    upkeep:
        CONDEMN = "condemn.sql",
        CONDEMN_UNOWNED = "condemn_unowned.sql",
        PENDING = "pending.sql",
        PROMOTE = "promote.sql",
        RECLAIM = "reclaim.sql",
        REMOVE_CONDEMNED = "remove_condemned.sql",
        SHORTEN = "shorten.sql";
    /// Retention.
    purge:
        BODIES = "bodies.sql",
        CLAIMS = "claims.sql",
        DEAD = "dead.sql",
        KEYS = "keys.sql",
        TRANSITIONS = "transitions.sql";
    /// The partitioned layout.
    partition:
        DEFAULT_ROWS = "default_rows.sql",
        LIST = "list.sql",
        PERIOD = "period.sql",
        WRITE_PERIOD = "write_period.sql";
    /// Named leases.
    lock:
        ACQUIRE = "acquire.sql",
        EXTEND = "extend.sql";
    /// Wake-ups.
    notify:
        TELL = "tell.sql";
    /// Sequences, which may be behind their rows.
    sequence:
        READY = "ready.sql",
        SET = "set.sql",
        TRANSITIONS = "transitions.sql";
    /// Counting.
    stats:
        PAUSES = "pauses.sql",
        SAMPLE = "sample.sql";
    /// What operators ask and do.
    admin:
        CREATED_AT = "created_at.sql",
        DEAD_LETTERS = "dead_letters.sql",
        DEAD_LETTERS_OF_TYPE = "dead_letters_of_type.sql",
        DISCARD = "discard.sql",
        GET = "get.sql",
        HISTORY = "history.sql",
        KILL = "kill.sql",
        LIST_ALL = "list_all.sql",
        LIST_DEAD_MESSAGES = "list_dead_messages.sql",
        LIST_LEASED = "list_leased.sql",
        LIST_WAITING = "list_waiting.sql",
        PAUSE = "pause.sql",
        REQUEUE = "requeue.sql",
        RESCHEDULE = "reschedule.sql",
        RESUME = "resume.sql",
        SABOTAGE_BODY = "sabotage_body.sql",
        SABOTAGE_HEADERS = "sabotage_headers.sql",
        SABOTAGE_READY = "sabotage_ready.sql",
        SCAN_ALL = "scan_all.sql",
        SCAN_DEAD = "scan_dead.sql",
        SCAN_WAITING = "scan_waiting.sql",
        SELECT_DEAD = "select_dead.sql",
        SELECT_LIVE = "select_live.sql",
        SELECT_SCHEDULED = "select_scheduled.sql",
        STILL_LIVE = "still_live.sql",
        TRANSITIONS = "transitions.sql",
        WORKERS = "workers.sql";
    /// Comparing everything with the invariants.
    audit:
        BODIES = "bodies.sql",
        CLAIMS = "claims.sql",
        PLACES = "places.sql",
        SETTLEMENTS = "settlements.sql";
}

/// How transactions of the library begin: with the settings that the statements are planned under. Each is a script, with comments.
pub mod prelude {
    /// The end of each of them: that it began a transaction.
    pub const CHECK: &str = include_str!("../sql/postgres/prelude/check.sql");
    /// As the planner likes.
    pub const FREE: &str = include_str!("../sql/postgres/prelude/free.sql");
    /// By indexes, in their order.
    pub const INDEXED: &str = include_str!("../sql/postgres/prelude/indexed.sql");
    /// One snapshot that is only read, by indexes.
    pub const LOOKUP: &str = include_str!("../sql/postgres/prelude/lookup.sql");
    /// As the planner likes, however long it takes.
    pub const PATIENT: &str = include_str!("../sql/postgres/prelude/patient.sql");
    /// One snapshot that is only read, as a whole.
    pub const SNAPSHOT: &str = include_str!("../sql/postgres/prelude/snapshot.sql");
}

/// What tables and views are called: `tickr_ready` of the files becomes `"schema"."prefix_ready"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    schema: Option<String>,
    prefix: String,
}

impl Default for Names {
    fn default() -> Self {
        Self { schema: None, prefix: Self::PREFIX.to_owned() }
    }
}

impl Names {
    /// The prefix of names in the files.
    pub const PREFIX: &'static str = "tickr_";

    /// The longest name of a table, view or index without its prefix; PostgreSQL cuts names at 63 bytes.
    const LONGEST: usize = 28;

    /// Takes a schema (`None`: whatever the search path says) and a prefix.
    ///
    /// # Errors
    /// [`Config`](tickr_core::ErrorKind::Config) for names that PostgreSQL would cut or refuse.
    pub fn new(schema: Option<&str>, prefix: &str) -> Result<Self> {
        if let Some(schema) = schema
            && (schema.is_empty() || schema.len() > 63 || schema.contains('\0'))
        {
            return Err(Error::config("schema is not 1 to 63 bytes without NUL"));
        }
        if prefix.len() + Self::LONGEST > 63 {
            return Err(Error::config(format!("prefix is longer than {} bytes", 63 - Self::LONGEST)));
        }
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
            return Err(Error::config("prefix is empty, or not made of a-z, 0-9 and _"));
        }
        Ok(Self { schema: schema.map(str::to_owned), prefix: prefix.to_owned() })
    }

    /// The schema, if one was set.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The same names in a schema.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_schema(&self, schema: &str) -> Result<Self> {
        Self::new(Some(schema), &self.prefix)
    }

    /// The statement that makes the configured schema; nothing without one.
    pub fn create_schema(&self) -> String {
        self.schema.as_deref().map(|schema| format!("CREATE SCHEMA {}", quoted(schema))).unwrap_or_default()
    }

    /// The bare name of a table or view, given without prefix.
    pub fn table(&self, table: &str) -> String {
        format!("{}{table}", self.prefix)
    }

    /// The name of a table or view, given without prefix, ready to stand in a statement.
    pub fn qualified(&self, table: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table(table))),
            None => quoted(&self.table(table)),
        }
    }

    /// The channel of NOTIFY. Two queues of one database that share it wake each other in vain, and nothing worse.
    pub fn channel(&self) -> String {
        let text = match &self.schema {
            Some(schema) => format!("{}ready.{schema}", self.prefix),
            None => format!("{}ready", self.prefix),
        };
        // At most 63 bytes; more would be an error of pg_notify.
        text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 63).map(|(_, c)| c).collect()
    }

    /// The script that makes a partition of a table, from one bound to before another. It is made beside and then attached, which
    /// stops no statement on the table.
    pub fn attach_partition(&self, table: &str, partition: &str, from: &str, to: &str) -> String {
        // A partition does not inherit how its table's rows are identified to subscribers.
        let identity = match table {
            "settlements" => format!("ALTER TABLE {} REPLICA IDENTITY FULL;\n", self.qualified(partition)),
            _ => String::new(),
        };
        let (table, partition) = (self.qualified(table), self.qualified(partition));
        format!(
            "CREATE TABLE {partition} (LIKE {table} INCLUDING ALL EXCLUDING IDENTITY);\n{identity}\
             ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{from}') TO ('{to}');"
        )
    }

    /// The script that takes a partition from its table; then [`is_empty`](Self::is_empty) is certain.
    pub fn detach_partition(&self, table: &str, partition: &str) -> String {
        format!("ALTER TABLE {} DETACH PARTITION {}", self.qualified(table), self.qualified(partition))
    }

    /// The question whether a table has no row.
    pub fn is_empty(&self, table: &str) -> String {
        format!("SELECT NOT EXISTS (SELECT FROM {})", self.qualified(table))
    }

    /// The script that drops a table.
    pub fn drop_table(&self, table: &str) -> String {
        format!("DROP TABLE {}", self.qualified(table))
    }

    /// Puts the names into a text, and leaves its comments out.
    pub fn render(&self, text: &str) -> String {
        let mut rendered = String::with_capacity(text.len());
        for line in text.lines() {
            let code = line.split("--").next().unwrap_or(line).trim_end();
            if code.is_empty() {
                continue;
            }
            self.render_line(code, &mut rendered);
            rendered.push('\n');
        }
        rendered
    }

    fn render_line(&self, mut line: &str, rendered: &mut String) {
        while let Some(at) = line.find(Self::PREFIX) {
            let (before, found) = line.split_at(at);
            rendered.push_str(before);
            let end = found.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(found.len());
            let name = &found[Self::PREFIX.len()..end];
            // An index lives in the schema of its table, and is named without it; so is what a table is renamed to.
            if before.ends_with("INDEX ") || before.ends_with("RENAME TO ") {
                rendered.push_str(&quoted(&format!("{}{name}", self.prefix)));
            } else {
                rendered.push_str(&self.qualified(name));
            }
            line = &found[end..];
        }
        rendered.push_str(line);
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Every statement with the names in it. Each begins with a comment that says which it is, for those who look at a server.
#[derive(Clone, Debug)]
pub struct Rendered(HashMap<&'static str, String>);

impl Rendered {
    /// Renders all statements.
    pub fn new(names: &Names) -> Self {
        let render = |statement: &Statement| {
            let name = statement.name.trim_end_matches(".sql");
            (statement.name, format!("/* tickr {name} */ {}", names.render(statement.text)))
        };
        Self(ALL.iter().map(render).collect())
    }

    /// The text of a statement.
    pub fn get(&self, statement: Statement) -> &str {
        self.0.get(statement.name).map_or(statement.text, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qualified_and_quoted() {
        let names = Names::new(Some("My \"app\""), "q_").unwrap();
        assert_eq!(
            names.render("-- header\nSELECT seq  -- why\nFROM tickr_ready r\nJOIN tickr_open_claims"),
            "SELECT seq\nFROM \"My \"\"app\"\"\".\"q_ready\" r\nJOIN \"My \"\"app\"\"\".\"q_open_claims\"\n"
        );
        assert_eq!(
            names.render("CREATE INDEX tickr_ready_id ON tickr_ready (id);"),
            "CREATE INDEX \"q_ready_id\" ON \"My \"\"app\"\"\".\"q_ready\" (id);\n"
        );
        assert_eq!(Names::default().render("FROM tickr_ready"), "FROM \"tickr_ready\"\n");
    }

    #[test]
    fn no_file_hides_a_comment_or_a_name_in_a_literal() {
        let scripts = tickr_migrations::postgres::PARTITIONED.iter().map(|migration| (migration.name, migration.sql));
        for (name, text) in ALL.iter().map(|statement| (statement.name, statement.text)).chain(scripts) {
            for line in text.lines() {
                let code = line.split("--").next().unwrap();
                let inside = code.split('\'').skip(1).step_by(2);
                assert!(code.matches('\'').count() % 2 == 0, "{name}: a literal with a comment sign or over two lines: {line}");
                assert!(inside.into_iter().all(|literal| !literal.contains(Names::PREFIX)), "{name}: {line}");
            }
        }
    }

    #[test]
    fn the_longest_name_fits() {
        let texts = tickr_migrations::postgres::PARTITIONED.iter().map(|migration| migration.sql);
        let longest = texts
            .flat_map(|text| text.split(|c: char| !c.is_ascii_lowercase() && c != '_'))
            .filter_map(|word| word.strip_prefix(Names::PREFIX))
            .map(str::len)
            .max();
        assert!(longest.unwrap() <= Names::LONGEST, "{longest:?}");
    }

    #[test]
    fn wrong_names_are_refused() {
        for (schema, prefix) in [(Some(""), "tickr_"), (Some("a\0"), "tickr_"), (None, ""), (None, "Tickr_"), (None, "a-b")] {
            assert!(Names::new(schema, prefix).is_err(), "{schema:?} {prefix:?}");
        }
        assert!(Names::new(None, &"p".repeat(40)).is_err());
        assert!(Names::new(Some("needs quoting"), "p_").is_ok());
    }

    #[test]
    fn a_channel_is_never_too_long() {
        let names = Names::new(Some(&"ä".repeat(31)), "tickr_").unwrap();
        assert!(names.channel().len() <= 63);
        assert_eq!(Names::default().channel(), "tickr_ready");
    }
}
