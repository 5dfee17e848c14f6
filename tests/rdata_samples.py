# SPDX-License-Identifier: Apache-2.0
"""A sample of rdata for every type that dnspython knows, as text in its class."""

import pkgutil

import dns.rdtypes.ANY
import dns.rdtypes.IN

#: (CH A is left out: dnspython compresses the name in it, which RFC 3597 s4 leaves to RFC 1035's types.)
#: OPT has rules of its own; TKEY and TSIG are no data and have no text form that dnspython reads.
NOT_DATA = {"OPT", "TKEY", "TSIG"}

SAMPLES: dict[str, list[str]] = {
    "A": ["10.0.0.1"],
    "AAAA": ["2001:db8::1"],
    "AFSDB": ["1 afs.example.com."],
    "AMTRELAY": ["10 0 3 relay.example.com.", "10 0 1 203.0.113.15"],
    "APL": ["1:192.168.32.0/21 !1:192.168.38.0/28 2:FF00::/8"],
    "AVC": ['"app-name:WOLFGANG|app-class:OAM"'],
    "BRID": ["dGVzdA=="],
    "CAA": ['0 issue "ca.example.net"'],
    "CDNSKEY": ["256 3 8 AwEAAcw="],
    "CDS": ["12345 8 2 " + "ab" * 32],
    "CERT": ["65534 65535 PRIVATEOID dGVzdA=="],
    "CNAME": ["target.example.com.", "."],
    "CSYNC": ["66 3 A NS AAAA"],
    "DHCID": ["AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA="],
    "DLV": ["12345 8 2 " + "ab" * 32],
    "DNAME": ["other.example.com."],
    "DNSKEY": ["256 3 8 AwEAAcw="],
    "DS": ["12345 8 2 " + "ab" * 32],
    "DSYNC": ["CDS NOTIFY 5359 notify.example.com."],
    "EUI48": ["00-00-5e-00-53-2a"],
    "EUI64": ["00-00-5e-ef-10-00-00-2a"],
    "GPOS": ["-32.6882 116.8652 10.0"],
    "HHIT": ["dGVzdA=="],
    "HINFO": ['"Generic PC clone" "NetBSD-1.4"'],
    "HIP": ["2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9 rvs.example.com."],
    "HTTPS": ["0 pool.example.com.", '1 . alpn="h2,h3" ipv4hint="192.0.2.1"'],
    "IPSECKEY": ["10 3 2 gateway.example.com. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ=="],
    "ISDN": ['"isdn-number" "subaddress"'],
    "KEY": ["512 255 1 AQMFD5raczCJHViKtLYhWGz8hMY9UGRuniJDBzC7w0aR"],
    "KX": ["10 kx.example.com."],
    "L32": ["10 10.1.2.0"],
    "L64": ["10 2001:0db8:1140:1000"],
    "LOC": ["60 9 0.000 N 24 39 0.000 E 10.00m 20m 2000m 20m"],
    "LP": ["10 l64-subnet1.example.com."],
    "MX": ["10 mail.example.com.", "0 ."],
    "NAPTR": ['100 50 "s" "z3950+I2L+I2C" "" _z3950._tcp.example.com.', '0 0 "" "" "!a!b!" .'],
    "NID": ["10 0014:4fff:ff20:ee64"],
    "NINFO": ['"foo"'],
    "NS": ["ns.example.com."],
    "NSAP": ["0x47000580005a0000000001e133ffffff00016100"],
    "NSAP_PTR": ["foo.example.com."],
    "NSEC": ["a.secure.example.com. A MX RRSIG NSEC TYPE1234"],
    "NSEC3": ["1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr NS SOA MX RRSIG DNSKEY NSEC3PARAM"],
    "NSEC3PARAM": ["1 1 12 aabbccdd"],
    "OPENPGPKEY": ["dGVzdA=="],
    "PTR": ["host.example.com."],
    "PX": ["65535 foo.example.com. bar.example.com."],
    "RESINFO": ['"qnamemin" "exterr=15,16,17"'],
    "RP": ["mbox.example.com. txt.example.com.", ". ."],
    "RRSIG": ["A 8 3 3600 20300101000000 20200101000000 12345 example.com. dGVzdA=="],
    "RT": ["0 intermediate.example.com."],
    "SIG": ["A 8 3 3600 20300101000000 20200101000000 12345 Example.com. dGVzdA=="],
    "SMIMEA": ["1 1 1 " + "ab" * 32],
    "SOA": ["ns.example.com. hostmaster.example.com. 2026112200 7200 3600 1209600 30"],
    "SPF": ['"v=spf1 -all"'],
    "SRV": ["0 5 5060 sip.example.com.", "0 0 0 ."],
    "SSHFP": ["1 1 " + "ab" * 20],
    "SVCB": ["16 foo.example.com. alpn=h2 port=8443"],
    "TLSA": ["3 1 1 " + "ab" * 32],
    "TXT": ['"text" "and \\255 more"', '""'],
    "URI": ['10 1 "ftp://ftp.example.com/public"'],
    "WALLET": ['"EXAMPLE" "01234567890abcdef"'],
    "WKS": ["10.0.0.1 6 0 1 2 21 23"],
    "X25": ['"123456789"'],
    "ZONEMD": ["2018031900 1 1 " + "ab" * 48],
}


def known_types() -> list[str]:
    """Every rdata module of dnspython that is data, in class IN."""
    packages = (dns.rdtypes.ANY, dns.rdtypes.IN)
    names = {module.name for package in packages for module in pkgutil.iter_modules(package.__path__)}
    return sorted(names - NOT_DATA)


def samples() -> list[tuple[str, str]]:
    """(type, rdata text) of each sample that this dnspython reads."""
    known = [rdtype for rdtype in known_types() if rdtype in SAMPLES]
    return [(rdtype.replace("_", "-"), text) for rdtype in known for text in SAMPLES[rdtype]]
