/* SPDX-License-Identifier: Apache-2.0 */
/* Networks and their endpoints as JSON, for people and for the API. */
#include "network/network.h"

#include <arpa/inet.h>
#include <stdio.h>

static void text4(uint32_t address, char ret[INET_ADDRSTRLEN])
{
    struct in_addr in = {htonl(address)};

    inet_ntop(AF_INET, &in, ret, INET_ADDRSTRLEN);
}

static json_t *port_json(const struct net_forward *port)
{
    char host[INET6_ADDRSTRLEN];

    if (port->host_is6)
        inet_ntop(AF_INET6, &port->host_address6, host, sizeof(host));
    else
        text4(port->host_address, host);
    return json_pack("{s:s, s:s, s:i, s:i}", "protocol", port->udp ? "udp" : "tcp", "host_address",
                     host, "host_port", (int)port->host_port, "guest_port", (int)port->guest_port);
}

json_t *network_endpoint_json(const struct network *network, const struct network_endpoint *e)
{
    struct in6_addr address6 = network_address6(network, e);
    char text[INET6_ADDRSTRLEN], mac[18];
    json_t *ports = json_array(), *object;

    for (unsigned i = 0; i < e->nr_ports; i++)
        json_array_append_new(ports, port_json(&e->ports[i]));
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", e->mac[0], e->mac[1], e->mac[2],
             e->mac[3], e->mac[4], e->mac[5]);
    text4(e->address4, text);
    object = json_pack("{s:s, s:s, s:s, s:s, s:o}", "name", e->id, "interface", e->interface, "mac",
                       mac, "ipv4", text, "ports", ports);
    if (network->has6) {
        inet_ntop(AF_INET6, &address6, text, sizeof(text));
        json_object_set_new(object, "ipv6", json_string(text));
    }
    return object;
}

json_t *network_json(const struct network *network)
{
    struct in6_addr gateway6 = network_gateway6(network);
    char subnet[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN], text6[INET6_ADDRSTRLEN];
    json_t *endpoints = json_array(), *object;

    for (unsigned i = 0; i < network->nr_endpoints; i++)
        json_array_append_new(endpoints, network_endpoint_json(network, &network->endpoints[i]));
    text4(network->subnet4.address, subnet);
    text4(network_gateway4(network), gateway);
    object = json_pack(
        "{s:s, s:s, s:o, s:s, s:i, s:b, s:o}", "name", network->name, "bridge", network->bridge,
        "subnet", json_sprintf("%s/%u", subnet, network->subnet4.bits), "gateway", gateway, "mtu",
        (int)network->mtu, "internal", (int)network->internal, "endpoints", endpoints);
    if (network->has6) {
        inet_ntop(AF_INET6, &network->prefix6, text6, sizeof(text6));
        json_object_set_new(object, "subnet6", json_sprintf("%s/64", text6));
        inet_ntop(AF_INET6, &gateway6, text6, sizeof(text6));
        json_object_set_new(object, "gateway6", json_string(text6));
    }
    return object;
}
