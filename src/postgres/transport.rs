//! The socket under a connection, in clear or under TLS: blocking with a time-out for login and statements, polled for
//! the stream.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::binding;
use super::tls;
use super::url::SourceUrl;
use crate::error::{Code, Error, Result};

/// How long one address may take to answer a connection request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the server may take for one step of the login, and how long a write may be stuck.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes read from the socket at once under TLS (64 KiB): rustls itself reads 4 KiB at a time.
const TLS_READ_BYTES: usize = 64 << 10;

/// Encrypted or not, the same to its user.
pub(super) struct Transport {
    channel: Channel,
    /// Host and port, for messages.
    pub(super) address: String,
    /// True if the other end is on this machine.
    pub(super) loopback: bool,
}

enum Channel {
    Clear(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, Buffered>>),
}

/// Reads ahead; writes straight through.
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

impl Transport {
    /// Connects, and encrypts unless `config` is absent.
    pub(super) fn connect(url: &SourceUrl, config: Option<ClientConfig>) -> Result<Transport> {
        let socket = connect_any(url)?;
        let loopback = socket.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
        let broken = |error: io::Error| unreachable_server(&url.address(), &error);
        socket.set_nodelay(true).map_err(broken)?;
        socket.set_read_timeout(Some(STEP_TIMEOUT)).map_err(broken)?;
        socket.set_write_timeout(Some(STEP_TIMEOUT)).map_err(broken)?;
        keep_alive(&socket).map_err(broken)?;
        let channel = match config {
            None => Channel::Clear(socket),
            Some(config) => Channel::Encrypted(Box::new(encrypt(url, socket, config)?)),
        };
        Ok(Transport { channel, address: url.address(), loopback })
    }

    /// True under TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.channel, Channel::Encrypted(_))
    }

    /// What a login can be bound to: nothing in clear, or where the certificate's signature defines no hash.
    pub(super) fn server_end_point(&self) -> Option<Vec<u8>> {
        match &self.channel {
            Channel::Clear(_) => None,
            Channel::Encrypted(stream) => binding::server_end_point(stream.conn.peer_certificates()?.first()?),
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.channel {
            Channel::Clear(socket) => socket,
            Channel::Encrypted(stream) => stream.sock.0.get_ref(),
        }
    }

    /// How long a blocking read may wait.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> Result<()> {
        self.socket().set_read_timeout(Some(timeout)).map_err(|error| self.broken(&error))
    }

    /// From here on reads return at once, with `WouldBlock` if nothing is there; [`Transport::wait`] waits.
    pub(super) fn start_polling(&self) -> Result<()> {
        self.socket().set_nonblocking(true).map_err(|error| self.broken(&error))
    }

    /// Waits until the socket has bytes, at most `timeout` (rounded up to milliseconds). Only meaningful after a read
    /// has returned `WouldBlock` or less than it had room for: TLS may hold bytes that the socket no longer shows.
    pub(super) fn wait(&self, timeout: Duration) -> Result<bool> {
        poll(self.socket(), libc::POLLIN, timeout).map_err(|error| self.broken(&error))
    }

    /// Reads what is there; 0 is the end.
    pub(super) fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.channel {
            Channel::Clear(socket) => socket.read(out),
            Channel::Encrypted(stream) => stream.read(out),
        }
    }

    /// Writes all of it, blocking or polled, within a bounded time.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.try_write_all(bytes).map_err(|error| self.broken(&error))
    }

    fn try_write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            let step = match &mut self.channel {
                Channel::Clear(socket) if !bytes.is_empty() => socket.write(bytes),
                Channel::Encrypted(stream) if !bytes.is_empty() => stream.write(bytes),
                Channel::Clear(_) => return Ok(()),
                // rustls buffers; only a flush that succeeds has sent everything.
                Channel::Encrypted(stream) => match stream.flush() {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                },
            };
            match step {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    poll(self.socket(), libc::POLLOUT, left)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The connection broke.
    pub(super) fn broken(&self, error: &io::Error) -> Error {
        unreachable_server(&self.address, error)
    }
}

fn connect_any(url: &SourceUrl) -> Result<TcpStream> {
    let address = url.address();
    let candidates = (url.host.as_str(), url.port).to_socket_addrs().map_err(|error| {
        Error::transient(Code::SourceUnreachable, format!("the host `{}` cannot be resolved: {error}", url.host))
    })?;
    let mut last = None;
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(socket) if is_self_connection(&socket, candidate) => {}
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    let reason = last.map_or("it has no address".to_string(), |error| error.to_string());
    Err(Error::transient(Code::SourceUnreachable, format!("the server at `{address}` cannot be reached: {reason}"))
        .hint("check that it runs and listens there, and that no firewall is between"))
}

/// A connection to a free local port can meet itself; retrying until a server starts would then find "a server".
fn is_self_connection(socket: &TcpStream, candidate: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|local| local == candidate)
}

fn encrypt(
    url: &SourceUrl,
    mut socket: TcpStream,
    config: ClientConfig,
) -> Result<StreamOwned<ClientConnection, Buffered>> {
    let broken = |error: &io::Error| unreachable_server(&url.address(), error);
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).map_err(|error| broken(&error))?;
    // Exactly one byte, unbuffered: what somebody slipped in behind it then fails the handshake instead of being
    // taken for the server's first message.
    let mut answer = [0];
    socket.read_exact(&mut answer).map_err(|error| broken(&error))?;
    match answer {
        [b'S'] => {}
        [b'N'] => return Err(tls::refused(url)),
        _ => {
            return Err(Error::transient(
                Code::SourceProtocol,
                format!("the server at `{}` answers the request for TLS with neither yes nor no", url.address()),
            )
            .hint("check that a PostgreSQL server listens there, and its log"));
        }
    }
    let mut connection = ClientConnection::new(Arc::new(config), tls::server_name(url)?)
        .map_err(|error| tls::handshake_error(url, &error))?;
    let mut socket = Buffered(BufReader::with_capacity(TLS_READ_BYTES, socket));
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(cause) => tls::handshake_error(url, cause),
                None => broken(&error),
            }
        })?;
    }
    Ok(StreamOwned::new(connection, socket))
}

fn unreachable_server(address: &str, error: &io::Error) -> Error {
    let diagnosis = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => format!("the server at `{address}` does not answer"),
        io::ErrorKind::UnexpectedEof => format!("the server at `{address}` closed the connection"),
        _ => format!("the connection to the server at `{address}` broke: {error}"),
    };
    Error::transient(Code::SourceUnreachable, diagnosis)
}

fn poll(socket: &TcpStream, events: libc::c_short, timeout: Duration) -> io::Result<bool> {
    let millis = timeout.as_micros().div_ceil(1000).try_into().unwrap_or(libc::c_int::MAX);
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: `entry` is one valid entry, and its descriptor is open as long as `socket` is borrowed.
    match unsafe { libc::poll(&raw mut entry, 1, millis) } {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
        ready => Ok(ready > 0),
    }
}

/// Lets the kernel notice a dead peer within about a minute, also while nothing is read.
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    #[cfg(target_os = "linux")]
    for (option, value) in [(libc::TCP_KEEPIDLE, 20), (libc::TCP_KEEPINTVL, 10), (libc::TCP_KEEPCNT, 4)] {
        set_option(socket, libc::IPPROTO_TCP, option, value)?;
    }
    Ok(())
}

fn set_option(socket: &TcpStream, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` lives through the call and `len` is its size; the descriptor is open.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
