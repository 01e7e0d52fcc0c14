/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow table's protocol (bpf/flow.h, open.h, snat.h, lock.h) for the model checker spin. Each statement is one
 * access to memory that CPUs share. Two CPUs open a flow of the same tuple, a third one another flow, each
 * ROUNDS times, and take each other's slots; a fourth looks one up. The first has backends answer in another
 * way than the second, as a random scheduler may; the third wants the same answers as the first, unless APART.
 *
 * SLOTS and APART are set with -D. BUG leaves out a step, which must be found.
 */
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef BUG
#define BUG 0
#endif

/* Without any of these the protocol does not hold. */
#define BUG_NO_LOCK 1 /* the lock is always taken */
#define BUG_EARLY_LIFE 2 /* a flow is published before it is filled */
#define BUG_NO_TURN 3 /* the turn is not compared after the copy */
#define BUG_NO_TUPLE 4 /* the copy is not compared with the tuple */
#define BUG_NOT_PENDING 5 /* answers that come are not seen */
#define BUG_SEEN_LATE 6 /* the lock is read after the look-up */

#define PLACES 3 /* of answers */
#define NONE 9
#define PENDING 8
#define TRIES 2

#define T 1 /* tuples of requests */
#define U 2
#define A 3 /* tuples of answers */
#define B 4
#ifdef APART
#define ANSWER_OF_U 5
#else
#define ANSWER_OF_U A
#endif

/* a slot; life is phase and turn in one word: turn times 2, plus 1 if live */
byte life[SLOTS], request[SLOTS], answer[SLOTS], rest[SLOTS];
bool taken[SLOTS]; /* its place in the bucket */

/* answers' places: 0 free, PENDING, or the slot plus one; of which tuple */
byte leads[PLACES], tag[PLACES];

byte lock[6]; /* by tuple */

#define live(s) (life[s] & 1)

/* What the table promises, whenever a flow is published. */
inline only_one(s)
{
	for (i : 0 .. SLOTS - 1) {
		assert(i == s || !live(i) || (request[i] != request[s] && answer[i] != answer[s]));
	}
	i = 0
}

/* slot_find() of requests: found is the slot, or NONE */
inline find(t, found)
{
	found = NONE; i = 0;
	do
	:: i < SLOTS && found == NONE ->
		if
		:: taken[i] ->
			seen = life[i];
			if
			:: (seen & 1) && request[i] == t -> found = i
			:: else
			fi
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0; seen = 0
}

/* The same of answers: NONE, PENDING or the slot. */
inline find_answer(t, found)
{
	found = NONE; i = 0;
	do
	:: i < PLACES && found == NONE ->
		at = (tag[i] == t -> leads[i] : 0);
		if
		:: at == PENDING -> found = PENDING
		:: at != 0 && at != PENDING ->
			if
			:: BUG != BUG_NOT_PENDING ->
				seen = life[at - 1];
				if
				:: !(seen & 1) && answer[at - 1] == t -> found = PENDING
				:: else
				fi
			:: else
			fi;
			if
			:: found == NONE ->
				seen = life[at - 1];
				if
				:: (seen & 1) && answer[at - 1] == t -> found = at - 1
				:: else
				fi
			:: else
			fi
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0; at = 0; seen = 0
}

inline take(l, was, got)
{
	atomic {
		got = (BUG == BUG_NO_LOCK || (lock[l] == was && !(was & 1)));
		if
		:: got -> lock[l] = lock[l] + 1
		:: else
		fi
	}
}

/* place becomes that of the answer, or NONE */
inline answer_take(t)
{
	place = NONE;
	was = lock[t];
	find_answer(t, found);
	if
	:: found == NONE ->
		take(t, was, got);
		if
		:: got ->
			atomic { /* claiming a place is one compare-and-swap; that it leads nowhere yet shows who has the lock */
				i = 0;
				do
				:: i < PLACES && tag[i] != 0 -> i++
				:: else -> break
				od;
				if
				:: i < PLACES -> tag[i] = t; place = i
				:: else
				fi;
				i = 0
			}
			if
			:: place != NONE -> leads[place] = PENDING
			:: else
			fi;
			lock[t] = lock[t] + 1
		:: else
		fi
	:: else
	fi;
	was = 0; found = NONE; got = false
}

inline give_back(p)
{
	leads[p] = 0;
	tag[p] = 0
}

/* flow_release() of the flow that was seen there */
inline release(s, was)
{
	atomic {
		if
		:: life[s] == was && (was & 1) -> assert(request[s] == seen); life[s] = life[s] + 1; got = true
		:: else -> got = false
		fi
	}
	if
	:: got ->
		i = 0;
		do
		:: i < PLACES && leads[i] != s + 1 -> i++
		:: else -> break
		od;
		assert(i < PLACES);
		give_back(i);
		i = 0;
		taken[s] = false
	:: else
	fi;
	got = false
}

inline claim()
{
	atomic {
		slot = 0;
		do
		:: slot < SLOTS && taken[slot] -> slot++
		:: else -> break
		od;
		if
		:: slot < SLOTS -> taken[slot] = true
		:: else -> slot = NONE
		fi
	}
}

/* slot_take(): any flow may be the one that gives way, and it is a while since it was seen */
inline slot_take()
{
	claim();
	if
	:: slot == NONE ->
		select(victim : 0 .. SLOTS - 1);
		was = life[victim];
		seen = request[victim];
		if
		:: was & 1 -> release(victim, was)
		:: else
		fi;
		victim = 0; was = 0; seen = 0;
		claim()
	:: else
	fi
}

inline fill(t, a)
{
	if
	:: BUG == BUG_EARLY_LIFE -> life[slot] = life[slot] + 1
	:: else
	fi;
	request[slot] = t;
	rest[slot] = t;
	answer[slot] = a;
	leads[place] = slot + 1;
	atomic {
		if
		:: BUG != BUG_EARLY_LIFE -> life[slot] = life[slot] + 1
		:: else
		fi;
		only_one(slot)
	}
}

proctype opener(byte t, a)
{
	byte round, i, at, seen, was, mine, found = NONE, place = NONE, slot = NONE, victim, tries;
	bool got;

	do
	:: round < ROUNDS ->
		if
		:: BUG != BUG_SEEN_LATE -> mine = lock[t]
		:: else
		fi;
		find(t, found);
		if
		:: BUG == BUG_SEEN_LATE -> mine = lock[t]
		:: else
		fi;
		if
		:: found == NONE ->
			answer_take(a);
			if
			:: place != NONE ->
				found = NONE; tries = 0; got = false;
				do
				:: tries < TRIES && !got && found == NONE ->
					take(t, mine, got);
					if
					:: !got ->
						mine = lock[t];
						find(t, found)
					:: else
					fi;
					tries++
				:: else -> break
				od;
				slot = NONE;
				if
				:: got ->
					got = false;
					slot_take();
					if
					:: slot != NONE -> fill(t, a); place = NONE
					:: else
					fi;
					lock[t] = lock[t] + 1
				:: else
				fi;
				if
				:: place != NONE -> give_back(place)
				:: else
				fi
			:: else
			fi
		:: else
		fi;
		d_step { found = NONE; place = NONE; slot = NONE; got = false; tries = 0; mine = 0; round++ }
	:: else -> break
	od
}

/* flow_find() and flow_read() of a packet */
proctype reader(byte t)
{
	byte i, seen, found = NONE, was, copy, other;

	find(t, found);
	if
	:: found != NONE ->
		was = life[found];
		copy = request[found];
		other = rest[found];
		if
		:: (was & 1) && (BUG == BUG_NO_TUPLE || request[found] == t) && (BUG == BUG_NO_TURN || life[found] == was) ->
			assert(copy == t && other == t)
		:: else
		fi
	:: else
	fi
}

init {
	byte s, p, flows;

	atomic {
		run opener(T, A);
		run opener(T, B);
		run opener(U, ANSWER_OF_U);
		run reader(T)
	}
	(_nr_pr == 1);
	d_step {
		for (s : 0 .. SLOTS - 1) {
			assert(taken[s] == live(s));
			flows = flows + live(s)
		}
		for (p : 0 .. PLACES - 1) {
			assert((leads[p] == 0) == (tag[p] == 0));
			assert(leads[p] != PENDING);
			assert(leads[p] == 0 || live(leads[p] - 1));
			flows = flows - (leads[p] != 0)
		}
		assert(flows == 0);
		assert(!((lock[T] | lock[U] | lock[A] | lock[B] | lock[ANSWER_OF_U]) & 1))
	}
}
