// Package tunnel lets TLS connections outlive an upgrade of the daemon.
//
// TLS state cannot pass through exec. So a child process of the same binary, started as
// "stratumSwitcher -tunnel", holds it: the daemon hands the child a connected TCP
// socket and one end of a socketpair, and keeps the other end, which is an ordinary
// stream socket that passes through exec like any other. The child does the
// handshake and then copies bytes. It knows nothing of Stratum. This works only on
// Linux; elsewhere New returns ErrUnsupported.
//
// # What it promises
//
//   - A child is started for the first connection and not before. Tunnel.Server and
//     Tunnel.Client never block: if there is no child, or if 1,000 descriptors have not
//     been acknowledged yet, connections wait, at most until their handshake's time is
//     over.
//   - The bytes of both directions are copied unchanged and in order. When a side closes
//     its writing half, the other side sees that after all bytes that were written
//     before. A side that does not read makes the other side wait: for each connection
//     the child keeps at most 16 KB for the daemon, 64 KB for the peer and one incomplete
//     record (17 KB), and the kernel keeps its usual socket buffers.
//   - After the daemon has closed its end, or the writing half of it, the peer has 30 s
//     to read the bytes that were written before.
//   - TunnelEnded is called exactly once for every connection that Server or Client
//     has accepted, even if the child dies, except after Close.
//   - When a child dies, its connections are lost, and those that were not handed over
//     yet go to the next child. The pause before a start grows from 100 ms to 5 s, which
//     is less than a miner waits for its pool.
//   - A child that has not answered for 20 s is killed, because its connections are
//     stuck and it accepts no new ones.
//   - A child never outlives the daemon: it exits when its control socket is closed,
//     and ignores SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2, which may be sent
//     to the whole process group. After exec it is still the daemon's child. The daemon
//     reaps it by its process ID and reaps no other children.
//   - Only TLS 1.2 and 1.3 are supported. A handshake must be done within the time of its
//     request. While it computes, it holds one of GOMAXPROCS-1 tokens (at least one);
//     while it waits for its peer, it holds none. So many handshakes at once leave a
//     processor to the established connections. At most 4,096 handshakes of miners are
//     open at a time, 1,024 from one address, with about 25 KB each; the next one is
//     refused as Busy. Handshakes with pools are not limited here, because the daemon
//     limits its dials.
//   - The key exchange with miners is X25519, P-256 or P-384, and there are no session
//     tickets, for the reasons in serve_linux.go. With pools, crypto/tls decides.
//   - Once there has been a good pair of files, miners can always connect. At the start
//     (Prepare) and when the files change, the daemon makes the kernel copy TLSCertFile
//     and TLSKeyFile into memory files, and gives each child the last good ones. These
//     pass through exec.
//   - Only the child uses private keys, and it alone reads renewed ones; Prepare reads
//     the key once to check it. The child is not dumpable and has PR_SET_NO_NEW_PRIVS.
//
// Because descriptors are passed, the child needs no permissions on files. The
// daemon's user opens them: if the daemon runs as an ordinary user, as packaged,
// that user must be able to read the key, even after a renewal. If a process gave up
// root after the start, it could still hand over the files that it has opened, but
// not renewed ones.
//
// # Goroutines
//
// Owners are called from the goroutine that reads the child's control socket. There is
// one for each child, so the calls for a connection are never simultaneous. A callback
// must not block, and the only method of the tunnel that it may call is Conn.Reset. A
// session posts the call to its loop. A call may arrive before or after bytes or the end
// of the pair, because the control socket and the pair are independent. TunnelEnded is
// also called for an owner that has closed its end, which ignores it.
//
// # What callers must not do
//
//   - Use or close a TCP descriptor that was handed over, or set options on it. TCP
//     options are set beforehand.
//   - Set TCP options on the pair, or ask it for addresses.
//   - Expect a reset to pass through the pair. Conn.Reset sends one, and
//     Ending.Reason reports one from the peer.
//   - Reap children with wait4(-1), which would take the tunnel's.
//   - Call Close or Freeze from an owner's callback.
//
// # Upgrade
//
// Before the loops are frozen the daemon calls Freeze, and then writes State and
// each connection's Ref into its own state, clears close-on-exec of
// State.Descriptors and of its ends of the pairs, and calls exec; Thaw undoes
// Freeze if that fails. The new program calls Resume, which sets close-on-exec
// again on what it takes over, Adopt for each connection, and Begin. A child of
// the same program and protocol continues. One of another program serves until a
// new one has the last good certificate; it then accepts no more connections and exits
// with its last one. At most eight children live at a time.
//
// # Protocol
//
// The control socket is a SOCK_SEQPACKET pair, which is descriptor 3 in the child. Each
// packet is one message. Numbers are big-endian. A text is a length of two bytes and
// that many bytes. A message begins with
//
//	0  version of the protocol, 1
//	1  kind
//	2  0, 0
//	4  number of the connection or certificate, 8 bytes
//
// and continues with exactly the fields of its kind below; a message with more or fewer
// bytes is malformed. Descriptors are sent with it as SCM_RIGHTS.
//
// From the daemon:
//
//	1  server       milliseconds for the handshake (4), text address (200 at most),
//	                length (2) and bytes already read (16,384 at most);
//	                descriptors: TCP connection, pair
//	2  client       milliseconds (4), text address, text server name (255 at most),
//	                1 if the certificate is not verified (1), SHA-256 of the trusted
//	                PEM file or zeros (32), count (1) and SHA-256s of pinned
//	                certificates (32 each, 8 at most);
//	                descriptors: TCP connection, pair
//	3  reset        the connection is to be reset
//	4  certificate  descriptors: certificate file, key file
//	5  trust        SHA-256 (32); descriptor: a PEM file
//	6  retire       accept no more connections and exit with the last one
//	7  ask          send a report
//
// From the child:
//
//	65 hello        protocol (2), pid (4), limit of descriptors (4), text program;
//	                always the first
//	66 received     count of descriptors received since the last such message (4), sent
//	                when there are 128 or more
//	67 ready        TLS version (2), cipher suite (2), 1 if resumed (1), end of the
//	                peer's certificate in Unix seconds or 0 (8)
//	68 ended        1 if it had been ready (1), Reason (1), text (200 at most)
//	69 certificate  Reason, 0 if it is in use, or a later one (1), not before (8), not
//	                after (8), both of the whole chain, text: its names, or what is wrong
//	70 report       nine numbers of 8 bytes in the order of Report's fields, count
//	                (1) of reasons and handshakes failed for each (8)
//
// "ready" and "ended" answer "server" and "client": "ready" is sent at most once, and
// "ended" exactly once after it. A program with another version of the protocol gives
// the child no new connections. A program that changes the format must still read the
// "ended" of the former format.
package tunnel
