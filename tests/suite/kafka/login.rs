//! Logins and TLS: what `properties` pass through to the client, and how a refusal shows.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use gimbal::error::{Code, Error, Kind};
use gimbal::sink::Sink;
use gimbal::sink::kafka::KafkaSink;
use tempfile::TempDir;

use super::scene::{Scene, assert_error, batch, position_in};
use crate::lab::{self, Kafka};

/// A broker that only lets in who logs in, over TLS.
struct Guarded {
    broker: Kafka,
    folder: TempDir,
}

fn sh(folder: &Path, script: &str) {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Guarded {
    fn start() -> Guarded {
        let folder = tempfile::tempdir().expect("a temporary folder");
        sh(
            folder.path(),
            "for ca in ca other; do
                 openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.crt
             done
             openssl req -newkey rsa:2048 -nodes -subj /CN=broker -keyout broker.key -out broker.csr
             printf 'subjectAltName=IP:127.0.0.1' >names
             openssl x509 -req -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out broker.crt
             cat broker.key broker.crt ca.crt >broker.pem",
        );
        let path = folder.path().display();
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required";
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let settings = format!(
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENT:SASL_SSL\n\
             ssl.keystore.type=PEM\nssl.keystore.location={path}/broker.pem\n\
             ssl.truststore.type=PEM\nssl.truststore.location={path}/ca.crt\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\nsasl.mechanism.inter.broker.protocol=PLAIN\n\
             listener.name.client.plain.sasl.jaas.config={plain} username=\"broker\" password=\"b\" user_broker=\"b\" \
             user_gimbal=\"right\";\n\
             listener.name.client.scram-sha-256.sasl.jaas.config={scram}\n"
        );
        let broker = Kafka::start(&[("GIMBAL_LAB_KAFKA_SETTINGS", &settings)]);
        std::fs::write(
            folder.path().join("admin.properties"),
            format!(
                "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\n\
                 ssl.truststore.location={path}/ca.crt\nsasl.jaas.config={plain} username=\"broker\" password=\"b\";\n"
            ),
        )
        .expect("the folder is writable");
        Guarded { broker, folder }
    }

    /// Gives a user a password for SCRAM.
    fn add_user(&self, name: &str, password: &str) {
        let libraries = format!("{}/*", lab::lab_folder().join("kafka").display());
        let mut command = lab::tied("java");
        command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &libraries, "kafka.admin.ConfigCommand"]);
        command.args(["--bootstrap-server", self.broker.bootstrap(), "--command-config"]);
        command.arg(self.folder.path().join("admin.properties"));
        command.args(["--alter", "--entity-type", "users", "--entity-name", name, "--add-config"]);
        let output = command.arg(format!("SCRAM-SHA-256=[password={password}]")).output().expect("setpriv starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn scene(&self, name: &str, mechanism: &str, password: &str) -> Scene {
        let ca = self.folder.path().join("ca.crt").display().to_string();
        Scene::named(&format!("{name}-{}", std::process::id()), self.broker.bootstrap())
            .with("security.protocol", "SASL_SSL")
            .with("ssl.ca.location", &ca)
            .with("sasl.mechanism", mechanism)
            .with("sasl.username", "gimbal")
            .with("sasl.password", password)
    }
}

/// The error of a first load, which must come well before a broker would count as unreachable.
fn refused(scene: &Scene) -> Error {
    let begin = Instant::now();
    let error = match KafkaSink::new(scene.options()).and_then(|mut sink| sink.load()) {
        Ok(_) => panic!("the login was accepted"),
        Err(error) => error,
    };
    assert!(begin.elapsed() < Duration::from_secs(12), "{error} after {:?}", begin.elapsed());
    error
}

#[test]
fn logins_and_tls_are_passed_through_and_a_refusal_is_told_at_once() {
    let guarded = Guarded::start();
    guarded.add_user("gimbal", "right");
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let scene = guarded.scene(&format!("right-{}", mechanism.to_lowercase()), mechanism, "right");
        let mut sink = scene.ready(scene.sink());
        sink.commit(&batch("1", &["a"])).unwrap();
        drop(sink);
        assert_eq!(position_in(&scene.sink().load().unwrap()), Some("1"), "{mechanism}");

        let error = refused(&guarded.scene("wrong", mechanism, "hunter2"));
        assert_error(&error, Kind::Definite, Code::SinkAuth, &["refuse the login", "sasl."]);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = refused(&guarded.scene("mechanism", "SCRAM-SHA-512", "right"));
    assert_error(&error, Kind::Definite, Code::SinkAuth, &["refuse the login"]);
    let other = guarded.folder.path().join("other.crt").display().to_string();
    let error = refused(&guarded.scene("authority", "PLAIN", "right").with("ssl.ca.location", &other));
    assert_error(&error, Kind::Definite, Code::SinkAuth, &["TLS", "ssl.ca.location"]);
    let error = refused(&guarded.scene("unknown", "PLAIN", "right").with("sasl.pasword", "hunter2"));
    assert_error(&error, Kind::Definite, Code::ConfigInvalid, &["sasl.pasword", "CONFIGURATION.md"]);
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
