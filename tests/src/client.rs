//! A raw MQTT client: sends what it is told, in the pieces and with the pauses it is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::mqtt::{Connect, DISCONNECT, PING, Packet, kind, publish};
use crate::wait::pause;

/// How long a client waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// FIN.
    Closed,
    /// RST.
    Reset,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Client {
    /// A connection, nothing sent.
    ///
    /// # Errors
    ///
    /// Where nobody accepts within [`PATIENCE`].
    pub fn open(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("connecting to {to}"))?;
        stream.set_nodelay(true)?;
        Ok(Self::from(stream))
    }

    /// A connection from an address of this host: `127.0.0.0/8` is a whole network of clients.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_from(from: IpAddr, to: SocketAddr) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket
            .connect_timeout(&to.into(), PATIENCE)
            .with_context(|| format!("connecting to {to} from {from}"))?;
        socket.set_tcp_nodelay(true)?;
        Ok(Self::from(TcpStream::from(socket)))
    }

    /// Connects and sends `connect`; waits for a CONNACK with code 0.
    ///
    /// # Errors
    ///
    /// Where that does not come within [`PATIENCE`].
    pub fn connect(to: SocketAddr, connect: &Connect) -> Result<Self> {
        let mut client = Self::open(to)?;
        client.greet(connect)?;
        Ok(client)
    }

    /// As [`Self::connect`] with MQTT 3.1.1 and this client id.
    ///
    /// # Panics
    ///
    /// Where it fails.
    #[must_use]
    #[track_caller]
    pub fn id(to: SocketAddr, id: &str) -> Self {
        match Self::connect(to, &Connect::v311(id)) {
            Ok(client) => client,
            Err(error) => panic!("client {id}: {error:#}"),
        }
    }

    /// Sends `connect` in one piece; waits for a CONNACK with code 0.
    ///
    /// # Errors
    ///
    /// Where that does not come within [`PATIENCE`].
    pub fn greet(&mut self, connect: &Connect) -> Result<()> {
        self.send(&connect.bytes())?;
        self.connack(PATIENCE)
    }

    /// Waits for a CONNACK with code 0.
    ///
    /// # Errors
    ///
    /// Where something else comes, or nothing in time.
    pub fn connack(&mut self, limit: Duration) -> Result<()> {
        match self.connack_code(limit)? {
            0 => Ok(()),
            code => bail!("CONNACK {code:#04x}"),
        }
    }

    /// The code of the CONNACK.
    ///
    /// # Errors
    ///
    /// Where something else comes, or nothing in time.
    pub fn connack_code(&mut self, limit: Duration) -> Result<u8> {
        let packet = self.packet(limit).context("waiting for CONNACK")?;
        if packet.kind() != kind::CONNACK || packet.body.len() < 2 {
            bail!("expected CONNACK, got {packet:?}");
        }
        Ok(packet.body[1])
    }

    /// Sends bytes in one write.
    ///
    /// # Errors
    ///
    /// Where the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")
    }

    /// Sends bytes in pieces of `size`, each a segment of its own, with a pause between.
    ///
    /// # Errors
    ///
    /// Where the connection is gone.
    pub fn send_in_pieces(&mut self, bytes: &[u8], size: usize, between: Duration) -> Result<()> {
        for (place, piece) in bytes.chunks(size).enumerate() {
            if place > 0 {
                pause(between);
            }
            self.send(piece)?;
        }
        Ok(())
    }

    /// The next packet.
    ///
    /// # Errors
    ///
    /// Where the connection ends or `limit` passes first.
    pub fn packet(&mut self, limit: Duration) -> Result<Packet> {
        let end = Instant::now() + limit;
        loop {
            if let Some((packet, length)) =
                Packet::split(&self.pending).map_err(anyhow::Error::msg)?
            {
                self.pending.drain(..length);
                return Ok(packet);
            }
            if self.fill(end)? == 0 {
                bail!("the connection was closed");
            }
        }
    }

    /// Exactly `count` bytes.
    ///
    /// # Errors
    ///
    /// Where the connection ends or `limit` passes first.
    pub fn bytes(&mut self, count: usize, limit: Duration) -> Result<Vec<u8>> {
        let end = Instant::now() + limit;
        while self.pending.len() < count {
            if self.fill(end)? == 0 {
                bail!("closed after {} of {count} bytes", self.pending.len());
            }
        }
        Ok(self.pending.drain(..count).collect())
    }

    /// Everything until the other side closes.
    ///
    /// # Errors
    ///
    /// Where it is reset, or `limit` passes first.
    pub fn to_end(&mut self, limit: Duration) -> Result<Vec<u8>> {
        let end = Instant::now() + limit;
        while self.fill(end)? > 0 {}
        Ok(std::mem::take(&mut self.pending))
    }

    /// Waits for the other side to end the connection, whatever it sends before: how, and how long it took.
    ///
    /// # Errors
    ///
    /// Where it is still open after `limit`.
    pub fn ending(&mut self, limit: Duration) -> Result<(Ending, Duration)> {
        let start = Instant::now();
        let end = start + limit;
        loop {
            match self.fill(end) {
                Ok(0) => return Ok((Ending::Closed, start.elapsed())),
                Ok(_) => {}
                Err(error) => match error.downcast_ref::<std::io::Error>() {
                    Some(io) if is_reset(io.kind()) => {
                        return Ok((Ending::Reset, start.elapsed()));
                    }
                    _ => return Err(error.context("still open")),
                },
            }
        }
    }

    /// Whether the connection is open now (and has nothing to say).
    pub fn is_open(&mut self) -> bool {
        self.stream.set_nonblocking(true).is_ok() && {
            let mut byte = [0; 1];
            let open = match self.stream.peek(&mut byte) {
                Ok(count) => count > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            self.stream.set_nonblocking(false).is_ok() && open
        }
    }

    /// PINGREQ, and its answer from the broker.
    ///
    /// # Errors
    ///
    /// Where no PINGRESP comes within [`PATIENCE`].
    pub fn ping(&mut self) -> Result<()> {
        self.send(&PING)?;
        let packet = self.packet(PATIENCE)?;
        if packet.kind() != kind::PINGRESP {
            bail!("expected PINGRESP, got {packet:?}");
        }
        Ok(())
    }

    /// PUBLISH with QoS 0.
    ///
    /// # Errors
    ///
    /// Where the connection is gone.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<()> {
        self.send(&publish(topic, payload))
    }

    /// DISCONNECT and FIN.
    pub fn disconnect(mut self) {
        let _ = self.send(&DISCONNECT);
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// FIN; reading goes on.
    ///
    /// # Errors
    ///
    /// Where the connection is gone.
    pub fn half_close(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("half close")
    }

    /// RST.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    pub fn reset(self) -> Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Our end of it.
    ///
    /// # Panics
    ///
    /// Never: the socket is connected.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connected socket has one")
    }

    /// The socket, for what is not here.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self, end: Instant) -> Result<usize> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("nothing in time; {} bytes waiting", self.pending.len());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut buffer = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut buffer) {
                // A read with a timeout is not started again by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.pending.extend(&buffer[..count]);
        Ok(count)
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}
