//! TLS: one client configuration for the replication connection and for `tokio-postgres`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{Roots, SourceUrl, TlsMode};
use crate::error::{Code, Error, Result};

/// The configuration for `url`, or nothing for `sslmode=disable`.
///
/// Errors: roots that are missing, unreadable or none ([`Code::SourceTls`]).
pub fn client_config(url: &SourceUrl) -> Result<Option<ClientConfig>> {
    let (roots, check_name) = match &url.tls {
        TlsMode::Disable => return Ok(None),
        TlsMode::VerifyCa(roots) => (roots, false),
        TlsMode::VerifyFull(roots) => (roots, true),
    };
    let roots = load_roots(roots)?;
    // The provider is named here, so that nothing depends on a process-wide default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::definite(Code::SourceTls, format!("TLS cannot be set up: {error}")))?;
    Ok(Some(if check_name {
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let verifier = Arc::new(ChainVerifier { roots, provider });
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    }))
}

/// The same for `tokio-postgres`. Whoever uses it must also set `SslMode::Require` there, or it would downgrade in
/// silence; [`super::connection::sql_config`] does.
pub fn sql_connector(url: &SourceUrl) -> Result<Option<MakeRustlsConnect>> {
    Ok(client_config(url)?.map(MakeRustlsConnect::new))
}

fn load_roots(roots: &Roots) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::File(path) => {
            for certificate in read_pem(path)? {
                store.add(certificate).map_err(|error| {
                    Error::definite(
                        Code::SourceTls,
                        format!("a certificate in `{}` cannot be used as a root: {error}", path.display()),
                    )
                })?;
            }
            if store.is_empty() {
                return Err(Error::definite(
                    Code::SourceTls,
                    format!("the file `{}` of `sslrootcert` holds no certificate", path.display()),
                )
                .hint("it has to be PEM, with `-----BEGIN CERTIFICATE-----`"));
            }
        }
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(Error::definite(Code::SourceTls, "the operating system lists no root certificate")
                    .hint("install the package `ca-certificates`, or name the root by `sslrootcert`"));
            }
        }
    }
    Ok(store)
}

fn read_pem(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = |problem: String| {
        Error::definite(Code::SourceTls, format!("the file `{}` of `sslrootcert` {problem}", path.display()))
    };
    let bytes = fs::read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(format!("is not PEM: {error}")))
}

/// Checks the chain and leaves the name alone (`verify-ca`).
#[derive(Debug)]
struct ChainVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The host as a certificate would name it.
pub(super) fn server_name(url: &SourceUrl) -> Result<ServerName<'static>> {
    ServerName::try_from(url.host.clone()).map_err(|_| {
        Error::definite(Code::SourceUrl, format!("no certificate can name the host `{}`", url.host))
            .hint("use a DNS name or an address")
    })
}

/// The server answered the request for TLS with a refusal.
pub(super) fn refused(url: &SourceUrl) -> Error {
    Error::definite(Code::TlsRefused, format!("the server at `{}` refuses TLS", url.address()))
        .hint("set `ssl = on` on the server; gimbal does not fall back to clear text by itself (`sslmode=disable` asks for it)")
}

/// The TLS library's own error, if it is among the causes of an error, however deep it was wrapped.
pub fn cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(found) = next {
        if let Some(found) = found.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An I/O error names its inner error's source as its own, and so hides the inner one.
        next = match found.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => found.source(),
        };
    }
    None
}

/// The diagnosis for a failed handshake, by its cause.
pub(super) fn handshake_error(url: &SourceUrl, error: &rustls::Error) -> Error {
    let address = url.address();
    let definite = |diagnosis: String| Error::definite(Code::SourceTls, diagnosis);
    let rustls::Error::InvalidCertificate(cause) = error else {
        return match error {
            rustls::Error::AlertReceived(alert) => {
                definite(format!("the server at `{address}` broke off the TLS handshake with the alert `{alert:?}`"))
            }
            other => definite(format!("the TLS handshake with the server at `{address}` failed: {other}")),
        };
    };
    match cause {
        CertificateError::UnknownIssuer => Error::definite(
            Code::CertificateUntrusted,
            format!(
                "no trusted root has issued the certificate of the server at `{address}` ({})",
                match &url.tls {
                    TlsMode::VerifyCa(Roots::File(path)) | TlsMode::VerifyFull(Roots::File(path)) => {
                        format!("trusted is `{}`", path.display())
                    }
                    _ => "trusted is the operating system's list".to_string(),
                }
            ),
        )
        .hint("name the file with the issuer's certificate by `sslrootcert`"),
        CertificateError::NotValidForName => wrong_name(url, None),
        CertificateError::NotValidForNameContext { presented, .. } => wrong_name(url, Some(presented)),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            definite(format!("the certificate of the server at `{address}` has expired")).hint("renew it on the server")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            definite(format!("the certificate of the server at `{address}` is not valid yet"))
                .hint("check the clocks of both machines")
        }
        other => definite(format!("the certificate of the server at `{address}` cannot be trusted: {other}")),
    }
}

fn wrong_name(url: &SourceUrl, presented: Option<&Vec<String>>) -> Error {
    let presented = match presented {
        Some(names) if !names.is_empty() => names.join("`, `"),
        _ => "no name at all".to_string(),
    };
    Error::definite(
        Code::CertificateName,
        format!("the certificate of the server at `{}` is not for `{}`: it names `{presented}`", url.address(), url.host),
    )
    .hint("use a host that the certificate's `subjectAltName` lists (the common name does not count), or `sslmode=verify-ca`")
}
