#![doc = include_str!("../README.md")]

/// The schema for SQLite.
pub mod sqlite {
    use tickr_core::Migration;

    /// Every migration in order. Each script records itself in `tickr_migrations` and belongs in one transaction.
    pub const MIGRATIONS: &[Migration] = &[Migration::new(1, "initial", include_str!("../sqlite/0001_initial.sql"))];

    /// The version that the newest migration leads to.
    pub const VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;
}

/// The schema for PostgreSQL.
pub mod postgres {
    use tickr_core::Migration;

    /// Every migration in order. Each script records itself in `tickr_migrations` and belongs in one transaction.
    pub const MIGRATIONS: &[Migration] =
        &[Migration::new(1, "initial", concat!(include_str!("../postgres/0001_initial.sql"), include_str!("../postgres/0001_views.sql")))];

    /// The same for the partitioned layout.
    pub const PARTITIONED: &[Migration] = &[Migration::new(
        1,
        "initial",
        concat!(
            include_str!("../postgres/0001_initial.sql"),
            include_str!("../postgres/0001_partitioned.sql"),
            include_str!("../postgres/0001_views.sql")
        ),
    )];

    /// The version that the newest migration leads to.
    pub const VERSION: u32 = MIGRATIONS[MIGRATIONS.len() - 1].version;
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_gapless_and_recorded_by_their_scripts() {
        for migrations in [super::sqlite::MIGRATIONS, super::postgres::MIGRATIONS, super::postgres::PARTITIONED] {
            for (at, migration) in migrations.iter().enumerate() {
                assert_eq!(usize::try_from(migration.version).unwrap(), at + 1);
                let record = format!("VALUES ({}, '{}', ", migration.version, migration.name);
                assert!(migration.sql.contains(&record), "{} does not record itself", migration.name);
            }
        }
    }
}
