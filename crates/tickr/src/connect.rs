//! Storages by URL, for tools and workers that learn at run time which database they are on.

use tickr_core::{AnyAdmin, Error, Result};

/// Opens the storage that a URL names, such as `sqlite:shop.db`: its scheme says which adapter.
///
/// The storage is erased: enough for workers, operators and own transactions of a
/// [`Client`](crate::Client). To enqueue inside a transaction of the application ([`EnqueueIn`](crate::EnqueueIn)), open the
/// adapter's own type instead.
///
/// | scheme | feature |
/// |---|---|
/// | `postgres://USER@HOST/DATABASE` | `postgres` |
/// | `sqlite:PATH` | `sqlite` |
///
/// # Errors
/// [`Config`](crate::ErrorKind::Config) for an unknown scheme, and for one whose feature is not on, naming both; else what
/// the adapter says.
pub async fn connect(url: &str) -> Result<AnyAdmin> {
    // Only the scheme is shown in errors: the rest of a URL may hold a password. What stands before a colon alone may be a user's name.
    let no_scheme = || Error::config("the storage's URL has no known scheme; it begins with postgres:// or sqlite:");
    let (scheme, rest) = url.split_once(':').ok_or_else(no_scheme)?;
    match scheme {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(tickr_core::AnyAdmin::new(tickr_postgres::PostgresStorage::connect(url).await?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => {
            Err(Error::config("this program was built without PostgreSQL; turn on the feature `postgres` of tickr-outbox"))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(tickr_core::AnyAdmin::new(tickr_sqlite::SqliteStorage::connect(url).await?)),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(Error::config("this program was built without SQLite; turn on the feature `sqlite` of tickr-outbox")),
        _ if !rest.starts_with("//") => Err(no_scheme()),
        _ => Err(Error::config(format!("no storage is known for the scheme {scheme:?}; known are postgres and sqlite"))),
    }
}

#[cfg(test)]
mod tests {
    use tickr_core::ErrorKind;

    use super::connect;

    async fn refused(url: &str) -> String {
        let error = connect(url).await.expect_err("it cannot be opened");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_named_and_nothing_else_of_the_url() {
        let error = refused("orecle://app:secret@db/shop").await;
        assert_eq!(error, "invalid argument: no storage is known for the scheme \"orecle\"; known are postgres and sqlite");
        for url in ["secret", "secret:5432/shop", "secret:word@db:5432/shop"] {
            let error = refused(url).await;
            assert_eq!(error, "invalid argument: the storage's URL has no known scheme; it begins with postgres:// or sqlite:");
        }
    }

    #[cfg(not(feature = "sqlite"))]
    #[tokio::test]
    async fn the_feature_to_turn_on_is_named() {
        assert!(refused("sqlite:shop.db").await.ends_with("turn on the feature `sqlite` of tickr-outbox"));
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn sqlite_is_opened_by_its_path() {
        use tickr_core::Storage;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let storage = connect(&format!("sqlite:{}", path.display())).await.unwrap();
        assert_eq!(storage.capabilities().name, "sqlite");
        assert!(path.exists());
    }
}
