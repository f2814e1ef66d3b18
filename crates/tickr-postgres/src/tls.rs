//! Encrypts connections, and says whom they trust.
//!
//! `sslmode=prefer` asks for encryption but not for a certificate, as in libpq: a server between the two can also decline TLS, so
//! refusing its certificate would protect nobody and keep honest servers out. For the same reason a file of certificates to trust
//! turns `prefer` into `require`: else the password would go in the clear to a server that declines.

#[cfg(any(feature = "rustls", feature = "native-tls"))]
use std::path::Path;
#[cfg(feature = "rustls")]
use std::sync::Arc;

#[cfg(any(feature = "rustls", feature = "native-tls"))]
use tickr_core::Error;
use tickr_core::Result;
use tokio_postgres::config::SslMode;

use crate::config::Tls;

/// The mode that a configuration means: where certificates to trust are named, nothing is sent without encryption.
///
/// # Errors
/// `Config` when encryption is turned off although certificates are named.
pub(crate) fn mode(tls: &Tls, mode: SslMode) -> Result<SslMode> {
    let named = match tls {
        Tls::Off => false,
        #[cfg(feature = "rustls")]
        Tls::Rustls { ca } => ca.is_some(),
        #[cfg(feature = "native-tls")]
        Tls::Native { ca } => ca.is_some(),
    };
    match mode {
        SslMode::Prefer if named => Ok(SslMode::Require),
        SslMode::Disable if named => {
            Err(tickr_core::Error::config("sslmode=disable contradicts sslrootcert, which asks for a verified server"))
        }
        mode => Ok(mode),
    }
}

/// What the driver takes, for each library.
#[derive(Clone)]
pub(crate) enum Encryption {
    Off,
    #[cfg(feature = "rustls")]
    Rustls(tokio_postgres_rustls::MakeRustlsConnect),
    #[cfg(feature = "native-tls")]
    Native(postgres_native_tls::MakeTlsConnector),
}

impl Encryption {
    #[cfg_attr(not(any(feature = "rustls", feature = "native-tls")), expect(clippy::unnecessary_wraps, reason = "files are read for TLS"))]
    pub(crate) fn new(tls: &Tls, mode: SslMode) -> Result<Self> {
        match tls {
            _ if mode == SslMode::Disable => Ok(Self::Off),
            Tls::Off => Ok(Self::Off),
            #[cfg(feature = "rustls")]
            Tls::Rustls { ca } => rustls_config(ca.as_deref(), mode).map(Self::Rustls),
            #[cfg(feature = "native-tls")]
            Tls::Native { ca } => native_config(ca.as_deref(), mode).map(Self::Native),
        }
    }
}

#[cfg(feature = "rustls")]
fn rustls_config(ca: Option<&Path>, mode: SslMode) -> Result<tokio_postgres_rustls::MakeRustlsConnect> {
    let provider = rustls::crypto::ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().map_err(refused)?;
    let config = match ca {
        None if mode == SslMode::Prefer => config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(algorithms))),
        None => config.with_root_certificates(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
        Some(file) => config.with_root_certificates(roots(file)?),
    };
    Ok(tokio_postgres_rustls::MakeRustlsConnect::new(config.with_no_client_auth()))
}

#[cfg(feature = "rustls")]
fn roots(file: &Path) -> Result<rustls::RootCertStore> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(unreadable)?;
    }
    if roots.is_empty() {
        return Err(unreadable("there are none"));
    }
    Ok(roots)
}

/// Takes every certificate whose holder has its key.
#[cfg(feature = "rustls")]
#[derive(Debug)]
struct Anybody(rustls::crypto::WebPkiSupportedAlgorithms);

#[cfg(feature = "rustls")]
mod anybody {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    use super::Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, certificate, signed, &self.0)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.0)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_schemes()
        }
    }
}

#[cfg(feature = "native-tls")]
fn native_config(ca: Option<&Path>, mode: SslMode) -> Result<postgres_native_tls::MakeTlsConnector> {
    let mut builder = native_tls::TlsConnector::builder();
    match ca {
        None => {
            let anybody = mode == SslMode::Prefer;
            builder.danger_accept_invalid_certs(anybody).danger_accept_invalid_hostnames(anybody);
        }
        Some(file) => {
            let pem = std::fs::read(file).map_err(unreadable)?;
            let certificates = native_tls::Certificate::stack_from_pem(&pem).map_err(unreadable)?;
            if certificates.is_empty() {
                return Err(unreadable("there are none"));
            }
            for certificate in certificates {
                builder.add_root_certificate(certificate);
            }
        }
    }
    Ok(postgres_native_tls::MakeTlsConnector::new(builder.build().map_err(refused)?))
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn refused(error: impl std::fmt::Display) -> Error {
    Error::config(format!("TLS cannot be set up: {error}"))
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
/// Without the name of the file: what a URL holds may be a part of a password.
fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::config(format!("the certificates that sslrootcert names cannot be used: {error}"))
}

#[cfg(all(test, any(feature = "rustls", feature = "native-tls")))]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn named_certificates_rule_out_a_connection_in_the_clear() {
        let ca = Some(PathBuf::from("ca.pem"));
        #[cfg(feature = "rustls")]
        let named_and_not = (Tls::Rustls { ca }, Tls::Rustls { ca: None });
        #[cfg(not(feature = "rustls"))]
        let named_and_not = (Tls::Native { ca }, Tls::Native { ca: None });
        let (named, not) = named_and_not;
        for given in [SslMode::Prefer, SslMode::Require] {
            assert_eq!(mode(&named, given).unwrap(), SslMode::Require);
        }
        assert_eq!(mode(&named, SslMode::Disable).unwrap_err().kind(), tickr_core::ErrorKind::Config);
        for given in [SslMode::Disable, SslMode::Prefer, SslMode::Require] {
            assert_eq!((mode(&not, given).unwrap(), mode(&Tls::Off, given).unwrap()), (given, given));
        }
    }
}
