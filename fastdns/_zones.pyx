# SPDX-License-Identifier: Apache-2.0
"""Which zone of the configuration a name falls into. SHM_LAYOUT

The hash of a name is taken label by label from the root, so that one walk over the name meets
all of its ancestors; it ends at the depth of the longest zone there is.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp

from fastdns._proto cimport TYPE_DS
from fastdns._shm cimport (
    FD_NO_SERIES,
    FD_NO_ZONE,
    FD_ZONE_USED,
    fd_at,
    fd_config_t,
    fd_zone,
    fd_zone_t,
)

cdef enum:
    LABELS_MAX = 128             # of a name of 255 octets, the root included


cdef inline uint32_t hash_begin(uint16_t group) noexcept nogil:
    return <uint32_t>0x811c9dc5 ^ group


cdef inline uint32_t hash_label(uint32_t total, const uint8_t *label) noexcept nogil:
    # FNV-1a over length and octets. The zones are the operator's: nobody chooses names to collide.
    cdef uint32_t i
    for i in range(<uint32_t>label[0] + 1):
        total = (total ^ label[i]) * <uint32_t>0x01000193
    return total


# Offsets of a name's labels, the root's not among them. Returns how many there are.
cdef inline uint32_t split(const uint8_t *name, uint32_t name_len, uint8_t *offsets) noexcept nogil:
    cdef uint32_t count = 0
    cdef uint32_t off = 0
    while off < name_len and name[off] != 0 and count < LABELS_MAX:
        offsets[count] = <uint8_t>off
        count += 1
        off += name[off] + 1u
    return count


cdef uint32_t zone_hash(uint16_t group, const uint8_t *name, uint32_t name_len) noexcept nogil:
    cdef uint8_t offsets[LABELS_MAX]
    cdef uint32_t labels = split(name, name_len, offsets)
    cdef uint32_t total = hash_begin(group)
    while labels:
        labels -= 1
        total = hash_label(total, name + offsets[labels])
    return total


cdef uint32_t look_up(const fd_config_t *config, uint16_t group, uint32_t total, const uint8_t *name,
                      uint32_t name_len) noexcept nogil:
    cdef const uint16_t *heads = <const uint16_t *>fd_at(config, config.zone_heads.off)
    cdef uint32_t number = heads[total & (config.zone_heads.count - 1)]
    cdef const fd_zone_t *zone
    while number < config.zones.count:
        zone = fd_zone(config, number)
        if (zone.group == group and zone.name_len == name_len
                and memcmp(fd_at(config, zone.name_off), name, name_len) == 0):
            return number
        number = zone.next
    return FD_NO_ZONE


cdef uint32_t zone_find(const fd_config_t *config, uint16_t group, const uint8_t *qname,
                        uint32_t qname_len, uint16_t qtype) noexcept nogil:
    cdef uint8_t offsets[LABELS_MAX]
    cdef uint32_t labels = split(qname, qname_len, offsets)
    cdef uint32_t total = hash_begin(group)
    cdef uint32_t found = look_up(config, group, total, qname + qname_len - 1, 1)
    cdef uint32_t depth = 0
    cdef uint32_t number
    while labels and depth < config.zone_depth:
        labels -= 1
        depth += 1
        total = hash_label(total, qname + offsets[labels])
        number = look_up(config, group, total, qname + offsets[labels], qname_len - offsets[labels])
        if number == FD_NO_ZONE:
            continue
        found = number
        if qtype == TYPE_DS:
            break
    return found


cdef const fd_zone_t *zone_at(const fd_config_t *config, uint32_t number) noexcept nogil:
    cdef const fd_zone_t *zone
    if number >= config.zones.count:
        return NULL
    zone = fd_zone(config, number)
    return zone if zone.flags & FD_ZONE_USED else NULL


cdef uint32_t zone_series(const fd_config_t *config, uint32_t listener, uint32_t zone) noexcept nogil:
    cdef uint32_t width = config.zones.count + 1
    if listener >= config.listener_count:
        return FD_NO_SERIES
    if zone >= config.zones.count:
        zone = config.zones.count
    return (<const uint16_t *>fd_at(config, config.series.off))[listener * width + zone]
