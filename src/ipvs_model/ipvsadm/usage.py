"""The usage text of -h: our own words, same commands and options."""

from typing import Final

USAGE: Final = """\
Usage:
  ipvsadm -A|E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [--pe ENGINE] [-b FLAGS] [-o]
  ipvsadm -D SERVICE
  ipvsadm -C
  ipvsadm -R < FILE
  ipvsadm -S [-n]
  ipvsadm -a|e SERVICE -r ADDRESS [-g|-i [TUNNEL]|-m] [-w WEIGHT] [-x UPPER] [-y LOWER]
  ipvsadm -d SERVICE -r ADDRESS
  ipvsadm -L [SERVICE|-c|--timeout|--daemon] [OPTIONS]
  ipvsadm -Z [SERVICE]
  ipvsadm --set TCP TCPFIN UDP
  ipvsadm --start-daemon master|backup [DAEMON OPTIONS]
  ipvsadm --stop-daemon master|backup
  ipvsadm -h | -v

Commands:
  -A, --add-service      add a virtual service       -a, --add-server       add a real server
  -E, --edit-service     edit a virtual service      -e, --edit-server      edit a real server
  -D, --delete-service   delete a virtual service    -d, --delete-server    delete a real server
  -C, --clear            delete everything           -L, -l, --list         list services, connections, …
  -R, --restore          read commands from stdin    -S, --save             write commands to stdout
  -Z, --zero             zero the counters           --set                  set timeouts in seconds (0: leave alone)
  --start-daemon STATE   start a sync daemon         --stop-daemon STATE    stop a sync daemon
  -h, --help             this text                   -v, --version          the version

SERVICE is one of:
  -t, --tcp-service ADDRESS[:PORT]      --sctp-service ADDRESS[:PORT]
  -u, --udp-service ADDRESS[:PORT]      -f, --fwmark-service MARK [-6]
An IPv6 address with a port stands in brackets: [2001:db8::1]:80.

Options of a service:
  -s, --scheduler NAME      rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos (default: wlc)
  -p, --persistent [SECONDS]  keep a client at its server (default: 360)
  -M, --netmask NETMASK     clients that belong together: IPv4 mask or IPv6 prefix length
  --pe ENGINE               persistence engine (sip)
  -b, --sched-flags FLAGS   comma list: sh-fallback sh-port mh-fallback mh-port flag-1 flag-2 flag-3
  -o, --ops                 a new decision for every packet (UDP)
  -6, --ipv6                the fwmark service is IPv6 (after -f)

Options of a real server:
  -r, --real-server ADDRESS[:PORT]
  -g, --gatewaying          direct routing (default)
  -i, --ipip                tunnel: --tun-type ipip|gue|gre, --tun-port PORT, --tun-nocsum, --tun-csum, --tun-remcsum
  -m, --masquerading        network address translation
  -w, --weight WEIGHT       default: 1
  -x, --u-threshold UPPER   most connections (0: no limit)
  -y, --l-threshold LOWER   connections below which it gets new ones again

Options of a list:
  -c, --connection          connections                 -n, --numeric      numbers instead of names
  --timeout                 timeouts                    -X, --exact        numbers in full
  --daemon                  sync daemons                --nosort           in the kernel's order
  --stats                   counters                    --sort             sorted (default)
  --rate                    rates per second            --persistent-conn  persistent connections, engine data
  --thresholds              thresholds                  --tun-info         tunnels

Options of a sync daemon:
  --mcast-interface NAME (default: eth0)   --syncid N (default: 0)      --sync-maxlen BYTES
  --mcast-group ADDRESS                    --mcast-port PORT            --mcast-ttl TTL
"""
