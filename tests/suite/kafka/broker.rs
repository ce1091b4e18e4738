//! A private broker behind a proxy that can hold requests back, answer nothing, or break connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crate::lab::{Kafka, eventually};

/// A broker whose clients all come through the proxy.
pub struct Proxied {
    pub bootstrap: String,
    pub proxy: Arc<Proxy>,
    _broker: Kafka,
}

/// The one that tests share. What is held concerns only requests that name a test's own things.
pub fn proxied() -> &'static Proxied {
    static SHARED: OnceLock<Proxied> = OnceLock::new();
    SHARED.get_or_init(|| {
        let front = TcpListener::bind("127.0.0.1:0").expect("a port for the proxy");
        let bootstrap = front.local_addr().expect("it is bound").to_string();
        let broker = Kafka::start(&[("GIMBAL_LAB_KAFKA_ADVERTISED", &bootstrap)]);
        let (proxy, behind) = (Arc::new(Proxy::default()), broker.bootstrap().to_owned());
        let serving = proxy.clone();
        thread::spawn(move || serving.serve(&front, &behind));
        Proxied { bootstrap, proxy, _broker: broker }
    })
}

/// API keys of the Kafka protocol.
pub const PRODUCE: i16 = 0;
pub const END_TXN: i16 = 26;

/// What to do with the first request of a kind that names something (a transactional id, a topic).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Keep the request, and break the client's connection: it sees a failure while the request is on its way.
    AndDisconnect,
    /// Keep the request, and the connection.
    Quietly,
    /// Pass the request on, but not its answer: the client's connections break, and stay broken until [`Proxy::up`].
    AnswerAndConnections,
}

/// A request on its way.
pub struct Held {
    rule: Arc<Rule>,
}

/// The broker's side of the connection that a request came over, and its bytes.
type Request = (Arc<Mutex<TcpStream>>, Vec<u8>);

struct Rule {
    api: i16,
    names: Vec<u8>,
    hold: Hold,
    fired: AtomicBool,
    request: Mutex<Option<Request>>,
}

impl Held {
    /// True once the request came.
    pub fn is_held(&self) -> bool {
        self.rule.fired.load(Ordering::SeqCst)
    }

    /// Waits for the request to come.
    pub fn wait(&self) {
        eventually("the request comes", Duration::from_secs(30), || self.is_held().then_some(()));
    }

    /// Hands the request to the broker after all.
    pub fn deliver(&self) {
        let (stream, request) = self.rule.request.lock().unwrap().take().expect("a held request");
        stream.lock().unwrap().write_all(&request).expect("the broker takes it");
    }
}

/// Passes requests on, one by one.
#[derive(Default)]
pub struct Proxy {
    rules: Mutex<Vec<Arc<Rule>>>,
    down: Mutex<Vec<Vec<u8>>>,
}

impl Proxy {
    /// Holds the first request of this kind whose bytes contain `names`.
    pub fn hold(&self, api: i16, names: &str, hold: Hold) -> Held {
        let rule = Arc::new(Rule {
            api,
            names: names.as_bytes().to_vec(),
            hold,
            fired: AtomicBool::new(false),
            request: Mutex::new(None),
        });
        self.rules.lock().unwrap().push(rule.clone());
        Held { rule }
    }

    /// Lets requests that contain `names` through again.
    pub fn up(&self, names: &str) {
        self.down.lock().unwrap().retain(|down| down != names.as_bytes());
    }

    fn serve(self: Arc<Self>, front: &TcpListener, behind: &str) {
        for client in front.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(behind) else { continue };
            let (Ok(client_back), Ok(server_back)) = (client.try_clone(), server.try_clone()) else { continue };
            thread::spawn(move || copy_back(server_back, client_back));
            let proxy = self.clone();
            thread::spawn(move || proxy.requests(client, server));
        }
    }

    fn requests(&self, mut client: TcpStream, server: TcpStream) {
        let server = Arc::new(Mutex::new(server));
        let mut holds = false;
        while let Some(request) = frame(&mut client) {
            let is_down = self.down.lock().unwrap().iter().any(|names| contains(&request, names));
            let rule = if is_down { None } else { self.rule_for(&request) };
            let pass = rule.as_ref().is_none_or(|rule| rule.hold == Hold::AnswerAndConnections) && !is_down;
            if let Some(rule) = &rule {
                *rule.request.lock().unwrap() = Some((server.clone(), request.clone()));
            }
            if let Some(rule) = rule.as_ref().filter(|rule| rule.hold == Hold::AnswerAndConnections) {
                self.down.lock().unwrap().push(rule.names.clone());
                let _ = client.shutdown(Shutdown::Both);
            }
            if pass && server.lock().unwrap().write_all(&request).is_err() {
                break;
            }
            if let Some(rule) = &rule {
                rule.fired.store(true, Ordering::SeqCst);
                holds = true;
                if rule.hold == Hold::Quietly {
                    continue;
                }
            }
            if is_down || rule.is_some() {
                // The broker's side stays open: what is held travels over it.
                let _ = client.shutdown(Shutdown::Both);
                return;
            }
        }
        if !holds {
            let _ = server.lock().unwrap().shutdown(Shutdown::Write);
        }
    }

    fn rule_for(&self, request: &[u8]) -> Option<Arc<Rule>> {
        let api = i16::from_be_bytes([request[4], request[5]]);
        let rules = self.rules.lock().unwrap();
        let rule = rules.iter().find(|rule| {
            rule.api == api
                && contains(request, &rule.names)
                && rule.request.lock().unwrap().is_none()
                && !rule.fired.load(Ordering::SeqCst)
        });
        rule.cloned()
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// One request with its length, or `None` at the end.
fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut request = length.to_vec();
    request.resize(4 + u32::from_be_bytes(length) as usize, 0);
    stream.read_exact(&mut request[4..]).ok()?;
    Some(request)
}

fn copy_back(mut server: TcpStream, mut client: TcpStream) {
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    // Answers to a client that is gone are read and thrown away, so that a held request can still be answered.
    let _ = std::io::copy(&mut server, &mut std::io::sink());
}
