"""The rollout: a challenger against the champion, camera by camera, judged on what a ward feels.

Here: who gets which version (`assignment`), what is counted (`evidence`), the tests that stay valid
however often one looks (`rates`, `ranks`), the library of labelled falls (`library`), guards that
need no statistics (`guards`), and the state machine that decides (`machine`). All pure: frames and
numbers in, decisions out. Not here: reading the lake, sending assignments (`pipeline.rollout`), or
the sensor that asks for a look (the Dagster layer).
"""
