/* The FileDescriptorSet of the public .proto files, imports first, as protoc wrote it: what server reflection serves.
 *
 * Threads: constants. */
#ifndef KITH_PROTO_PROTO_DESCRIPTORS_H
#define KITH_PROTO_PROTO_DESCRIPTORS_H

extern const unsigned char kith_proto_descriptors[];
extern const unsigned char kith_proto_descriptors_end[];

#endif
