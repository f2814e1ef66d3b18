#![doc = include_str!("../README.md")]

/// The schema for SQLite.
pub mod sqlite {
    use tickr_core::Migration;

    /// Every migration in order. Each script records itself in `tickr_migrations` and belongs in one transaction.
    pub const MIGRATIONS: &[Migration] = &[Migration { version: 1, name: "initial", sql: include_str!("../sqlite/0001_initial.sql") }];

    /// The version that the newest migration leads to.
    pub const VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_gapless_and_recorded_by_their_scripts() {
        for (at, migration) in super::sqlite::MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), at + 1);
            let record = format!("VALUES ({}, '{}', ", migration.version, migration.name);
            assert!(migration.sql.contains(&record), "{} does not record itself", migration.name);
        }
    }
}
